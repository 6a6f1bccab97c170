"""The reader of the compiler's text, on short texts with the traps of real ones."""

import pytest

from launch import hlo

KERNEL = """\
HloModule kernel, is_scheduled=true, num_partitions=16

ENTRY %main (a: bf16[8,128], b: f32[2]) -> bf16[8,128] {
  %a = bf16[8,128]{1,0:T(8,128)(2,1)} parameter(0)
  %b = f32[2]{0} parameter(1)
  %flash.1 = (bf16[8,128]{1,0:T(8,128)(2,1)S(1)}, f8e4m3fn[4]{0}, pred[], s4[3]{0}) custom-call(%a, %b), \
custom_call_target="tpu_custom_call", frontend_attributes={kernel_metadata={
"block":"512"
}}, metadata={op_name="jit(step)/flash"}, backend_config={"custom_call_config":{"body":"TUz}vUgF(N"}}
  %out = bf16[8,128]{1,0:T(8,128)(2,1)S(1)} get-tuple-element(%flash.1), index=0
  ROOT %copy.2 = bf16[8,128]{1,0:T(8,128)(2,1)} copy(%out), metadata={op_name="jit(step)/copy"}
}
"""


def test_line_breaks_and_braces_of_kernel_metadata_end_nothing():
    module = hlo.parse(KERNEL)
    assert list(module.entry.instructions) == ["a", "b", "flash.1", "out", "copy.2"]
    kernel = module.entry.instructions["flash.1"]
    assert kernel.attribute("custom_call_target") == "tpu_custom_call"
    assert kernel.operands == ("a", "b")
    assert 'op_name="jit(step)/flash"' in kernel.attributes  # after the break
    assert module.entry.root.name == "copy.2"


def test_arrays_have_types_shapes_and_memory():
    kernel = hlo.parse(KERNEL).entry.instructions["flash.1"]
    assert kernel.arrays == (
        hlo.Array("bf16", (8, 128), 1),
        hlo.Array("f8e4m3fn", (4,), hlo.HBM),
        hlo.Array("pred", (), hlo.HBM),
        hlo.Array("s4", (3,), hlo.HBM),
    )
    assert [array.bytes for array in kernel.arrays] == [2048, 4, 1, 1.5]
    assert kernel.bytes == 2054.5


def test_devices_are_partitions_times_replicas():
    assert hlo.parse(KERNEL).devices == 16
    assert hlo.parse(KERNEL.replace("partitions=16", "partitions=8, replica_count=3")).devices == 24


@pytest.mark.parametrize("cut", [0, KERNEL.index("ENTRY"), KERNEL.index("  ROOT %copy")])
def test_a_cut_text_is_refused(cut):
    with pytest.raises(ValueError, match=r"ENTRY|ROOT"):
        hlo.parse(KERNEL[:cut])
