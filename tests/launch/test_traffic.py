"""HBM bytes of short texts, counted by hand. `%big` has 4096 bytes, `%part` 64; S(1) is VMEM."""

import pytest

from launch import hlo, traffic

BIG, PART = 4096, 64


def moved(body: str, computations: str = "") -> float:
    """HBM bytes of an entry computation with the parameters %big f32[16,64], %part f32[1,16], %near (VMEM), %i."""
    text = f"""HloModule step, is_scheduled=true

{computations}
ENTRY %main (big: f32[16,64], part: f32[1,16], near: f32[16,64], i: s32[]) -> (f32[16,64]) {{
  %big = f32[16,64]{{1,0}} parameter(0)
  %part = f32[1,16]{{1,0}} parameter(1)
  %near = f32[16,64]{{1,0:T(8,128)S(1)}} parameter(2)
  %i = s32[]{{:T(128)S(6)}} parameter(3)
{body}
  ROOT %out = (f32[16,64]{{1,0}}) tuple(%big)
}}
"""
    return traffic.hbm_bytes(hlo.parse(text))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("f32[16,64]{1,0} add(%big, %big)", 2 * BIG),  # read once, written once
        ("f32[16,64]{1,0:T(8,128)S(1)} add(%big, %near)", BIG),
        ("f32[16,64]{1,0} add(%near, %near)", BIG),
        ("f32[1024]{0} bitcast(%big)", 0),
        ('f32[16,64]{1,0} custom-call(), custom_call_target="AllocateBuffer"', 0),
        ('f32[16,64]{1,0} custom-call(%big), custom_call_target="tpu_custom_call"', 2 * BIG),
        ("f32[1,16]{1,0} dynamic-slice(%big, %i, %i), dynamic_slice_sizes={1,16}", 2 * PART),
        ("f32[1,16]{1,0:T(8,128)S(1)} slice(%big), slice={[0:1], [0:16]}", PART),
        ("f32[16,64]{1,0} dynamic-update-slice(%big, %part, %i, %i)", 2 * PART),
        ("f32[16,64]{1,0} all-reduce(%big), to_apply=%add", 2 * BIG),
    ],
)
def test_single_instructions(line, expected):
    assert moved(f"  %t = {line}") == expected


@pytest.mark.parametrize(
    ("start", "done", "expected"),
    [
        ("(f32[16,64]{1,0:S(1)}, f32[16,64]{1,0}, u32[]) copy-start(%big)", "f32[16,64]{1,0:S(1)} copy-done", BIG),
        ("(f32[16,64]{1,0}, f32[16,64]{1,0:S(1)}, u32[]) copy-start(%near)", "f32[16,64]{1,0} copy-done", BIG),
        ("((f32[16,64]{1,0}), f32[1,16]{1,0:S(1)}, s32[]) slice-start(%big)", "f32[1,16]{1,0:S(1)} slice-done", PART),
        ("(f32[1,16]{1,0}, f32[4,16]{1,0}) all-gather-start(%part)", "f32[4,16]{1,0} all-gather-done", 5 * PART),
        ("(f32[1,16]{1,0}, u32[]{:S(2)}, token[]) send(%part)", "token[] send-done", PART),
        ("(f32[1,16]{1,0}, u32[]{:S(2)}, token[]) recv(%i)", "(f32[1,16]{1,0}, token[]) recv-done", PART),
    ],
)
def test_a_pair_counts_what_it_moves_once(start, done, expected):
    assert moved(f"  %s = {start}\n  %d = {done}(%s)") == expected


# Fusions of (%big, %part, %i): the result of each, what it computes, and the bytes.
SLICED = """  %sl = f32[1,16]{1,0} dynamic-slice(%p, %k, %k), dynamic_slice_sizes={1,16}
  ROOT %r = f32[1,16]{1,0} add(%sl, %q)"""
SLICED_AND_SUMMED = """  %sl = f32[1,16]{1,0} dynamic-slice(%p, %k, %k), dynamic_slice_sizes={1,16}
  %sum = f32[1,16]{1,0} reduce(%p), to_apply=%add
  ROOT %r = f32[1,16]{1,0} add(%sl, %sum)"""
SLICED_AFTER_CONVERT = """  %b = bf16[16,64]{1,0} convert(%p)
  %sl = bf16[1,16]{1,0} dynamic-slice(%b, %k, %k), dynamic_slice_sizes={1,16}
  ROOT %r = bf16[1,16]{1,0} add(%sl, %sl)"""
SLICED_DEEPER = """  %f = f32[1,16]{1,0} fusion(%k, %p), kind=kLoop, calls=%deeper
  ROOT %r = f32[1,16]{1,0} add(%f, %q)"""
UPDATED = "  ROOT %r = f32[16,64]{1,0} dynamic-update-slice(%p, %q, %k, %k)"
UPDATED_AND_MORE = """  %u = f32[16,64]{1,0} dynamic-update-slice(%p, %q, %k, %k)
  %e = f32[1,16]{1,0} exponential(%q)
  ROOT %r = (f32[16,64]{1,0}, f32[1,16]{1,0}) tuple(%u, %e)"""
LOOKED_UP = "  ROOT %r = f32[1,16]{1,0} gather(%p, %k), slice_sizes={1,16}"
ADDED_UP = "  ROOT %r = f32[16,64]{1,0} scatter(%p, %k, %q), to_apply=%add"


@pytest.mark.parametrize(
    ("result", "computation", "expected"),
    [
        ("f32[1,16]{1,0}", SLICED, 3 * PART),
        ("f32[1,16]{1,0:T(8,128)S(1)}", SLICED, 2 * PART),
        ("f32[1,16]{1,0}", SLICED_AND_SUMMED, BIG + PART),
        ("bf16[1,16]{1,0}", SLICED_AFTER_CONVERT, PART + PART / 2),
        ("f32[1,16]{1,0}", SLICED_DEEPER, 3 * PART),
        ("f32[16,64]{1,0}", UPDATED, 2 * PART),
        ("(f32[16,64]{1,0}, f32[1,16]{1,0})", UPDATED_AND_MORE, 3 * PART),
        ("f32[1,16]{1,0}", LOOKED_UP, 2 * PART),
        ("f32[16,64]{1,0}", ADDED_UP, 2 * PART),
        ("f32[16,64]{1,0}", "  ROOT %r = f32[16,64]{1,0} copy(%p)", 2 * BIG),
    ],
)
def test_a_fusion_moves_what_it_touches(result, computation, expected):
    fused = f"""%deeper (dk: s32[], dp: f32[16,64]) -> f32[1,16] {{
  %dk = s32[]{{:S(6)}} parameter(0)
  %dp = f32[16,64]{{1,0}} parameter(1)
  ROOT %dr = f32[1,16]{{1,0}} dynamic-slice(%dp, %dk, %dk), dynamic_slice_sizes={{1,16}}
}}

%fused (p: f32[16,64], q: f32[1,16], k: s32[]) -> f32[] {{
  %p = f32[16,64]{{1,0}} parameter(0)
  %q = f32[1,16]{{1,0}} parameter(1)
  %k = s32[]{{:S(6)}} parameter(2)
{computation}
}}
"""
    assert moved(f"  %t = {result} fusion(%big, %part, %i), kind=kLoop, calls=%fused", fused) == expected


def test_loops_multiply_and_their_state_is_free():
    loop = """%body (state: (s32[], f32[16,64])) -> (s32[], f32[16,64]) {
  %state = (s32[]{:S(6)}, f32[16,64]{1,0}) parameter(0)
  %n = s32[]{:S(6)} get-tuple-element(%state), index=0
  %x = f32[16,64]{1,0} get-tuple-element(%state), index=1
  %one = s32[]{:S(6)} constant(1)
  %next = s32[]{:S(6)} add(%n, %one)
  %y = f32[16,64]{1,0} negate(%x)
  ROOT %result = (s32[]{:S(6)}, f32[16,64]{1,0}) tuple(%next, %y)
}

%condition (test: (s32[], f32[16,64])) -> pred[] {
  %test = (s32[]{:S(6)}, f32[16,64]{1,0}) parameter(0)
  %at = s32[]{:S(6)} get-tuple-element(%test), index=0
  %bound = s32[]{:S(6)} constant(5)
  ROOT %more = pred[]{:S(6)} compare(%at, %bound), direction=LT
}
"""
    lines = """  %zero = s32[]{:S(6)} constant(0)
  %start = (s32[]{:S(6)}, f32[16,64]{1,0}) tuple(%zero, %big)
  %loop = (s32[]{:S(6)}, f32[16,64]{1,0}) while(%start), condition=%condition, body=%body"""
    assert moved(lines, loop) == 5 * 2 * BIG


def test_a_chain_moves_the_gathered_array_once():
    """Start: reads the shard, writes the whole. A carrier: its own product. Done: nothing."""
    chain = """%chain_start (p: f32[1,16]) -> (f32[1,16], f32[4,16]) {
  %p = f32[1,16]{1,0} parameter(0)
  %g0 = f32[4,16]{1,0} all-gather(%p), channel_id=7, dimensions={0}
  ROOT %k0 = (f32[1,16]{1,0}, f32[4,16]{1,0}) custom-call(%g0), custom_call_target="AsyncCollectiveStart"
}

%carrier (q: f32[1,16], whole: f32[4,16], l: f32[16,64]) -> (f32[16,64], f32[1,16], f32[4,16]) {
  %q = f32[1,16]{1,0} parameter(0)
  %whole = f32[4,16]{1,0} parameter(1)
  %l = f32[16,64]{1,0} parameter(2)
  %v = f32[16,64]{1,0} convolution(%l, %l), dim_labels=bf_io->bf
  %g1 = f32[4,16]{1,0} all-gather(%q), channel_id=7, dimensions={0}
  ROOT %t1 = (f32[16,64]{1,0}, f32[1,16]{1,0}, f32[4,16]{1,0}) tuple(%v, %q, %g1)
}

%chain_done (u: f32[1,16], w: f32[4,16]) -> f32[4,16] {
  %u = f32[1,16]{1,0} parameter(0)
  %w = f32[4,16]{1,0} parameter(1)
  %g2 = f32[4,16]{1,0} all-gather(%u), channel_id=7, dimensions={0}
  ROOT %k2 = f32[4,16]{1,0} custom-call(%u, %w, %g2), custom_call_target="AsyncCollectiveDone"
}
"""
    lines = """  %s = (f32[1,16]{1,0}, f32[4,16]{1,0}) fusion(%part), kind=kCustom, \
output_to_operand_aliasing={{0}: (0, {})}, calls=%chain_start
  %s0 = f32[1,16]{1,0} get-tuple-element(%s), index=0
  %s1 = f32[4,16]{1,0} get-tuple-element(%s), index=1
  %c = (f32[16,64]{1,0}, f32[1,16]{1,0}, f32[4,16]{1,0}) fusion(%s0, %s1, %big), kind=kOutput, \
output_to_operand_aliasing={{1}: (0, {}), {2}: (1, {})}, calls=%carrier
  %c1 = f32[1,16]{1,0} get-tuple-element(%c), index=1
  %c2 = f32[4,16]{1,0} get-tuple-element(%c), index=2
  %d = f32[4,16]{1,0} fusion(%c1, %c2), kind=kCustom, output_to_operand_aliasing={{}: (1, {})}, calls=%chain_done"""
    assert moved(lines, chain) == (PART + 4 * PART) + 2 * BIG
