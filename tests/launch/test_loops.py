"""Trip counts and executions, on short texts with the loops of real ones."""

from launch import hlo, loops

LOOPS = """\
HloModule step, is_scheduled=true, num_partitions=8, replica_count=2

%double (double.x: f32[4]) -> f32[4] {
  %double.x = f32[4]{0:T(128)} parameter(0)
  ROOT %double.sum = f32[4]{0:T(128)} add(%double.x, %double.x)
}

%inner_body (inner.state: (s32[], f32[4])) -> (s32[], f32[4]) {
  %inner.state = (s32[]{:T(128)}, f32[4]{0:T(128)}) parameter(0)
  %inner.i = s32[]{:T(128)S(6)} get-tuple-element(%inner.state), index=0
  %inner.two = s32[]{:T(128)} constant(2)
  %inner.next = s32[]{:T(128)} add(%inner.i, %inner.two)
  %inner.x = f32[4]{0:T(128)} get-tuple-element(%inner.state), index=1
  %inner.y = f32[4]{0:T(128)} fusion(%inner.x), kind=kLoop, calls=%double
  ROOT %inner.result = (s32[]{:T(128)}, f32[4]{0:T(128)}) tuple(%inner.next, %inner.y)
}

%inner_condition (inner.test: (s32[], f32[4])) -> pred[] {
  %inner.test = (s32[]{:T(128)}, f32[4]{0:T(128)}) parameter(0)
  %inner.at = s32[]{:T(128)} get-tuple-element(%inner.test), index=0
  %inner.bound = s32[]{:T(128)} constant(8)
  ROOT %inner.more = pred[]{:T(512)} compare(%inner.at, %inner.bound), direction=LT
}

%less (less.a: s32[], less.b: s32[]) -> pred[] {
  %less.b = s32[] parameter(1)
  %less.a = s32[] parameter(0)
  ROOT %less.it = pred[] compare(%less.a, %less.b), direction=GT
}

%outer_body (outer.state: (s32[], f32[4], /*index=2*/s32[])) -> (s32[], f32[4], s32[]) {
  %outer.state = (s32[], f32[4]{0:T(128)}, /*index=2*/s32[]) parameter(0)
  %outer.i = s32[] get-tuple-element(%outer.state), index=0
  %outer.step = s32[] get-tuple-element(%outer.state), index=2
  %outer.next = s32[] subtract(%outer.i, %outer.step)
  %outer.x = f32[4]{0:T(128)} get-tuple-element(%outer.state), index=1
  %zero = s32[] constant(0)
  %zero.copy = s32[] copy(%zero)
  %start = (s32[], f32[4]{0:T(128)}) tuple(%zero.copy, %outer.x)
  %inner = (s32[], f32[4]{0:T(128)}) while(%start), condition=%inner_condition, body=%inner_body
  %outer.y = f32[4]{0:T(128)} get-tuple-element(%inner), index=1
  ROOT %outer.result = (s32[], f32[4]{0:T(128)}, s32[]) tuple(%outer.next, %outer.y, %outer.step)
}

%outer_condition (outer.test: (s32[], f32[4], s32[])) -> pred[] {
  %outer.test = (s32[], f32[4]{0:T(128)}, s32[]) parameter(0)
  %outer.at = s32[] get-tuple-element(%outer.test), index=0
  %outer.bound = s32[] constant(-1)
  ROOT %outer.more = pred[] fusion(%outer.at, %outer.bound), kind=kLoop, calls=%less
}

ENTRY %main (x: f32[4], n: s32[]) -> f32[4] {
  %x = f32[4]{0:T(128)} parameter(0)
  %n = s32[] parameter(1)
  %four = s32[] constant(4)
  %one = s32[] constant(1)
  %outer.start = (s32[], f32[4]{0:T(128)}, s32[]) tuple(%four, %x, %one)
  %outer = (s32[], f32[4]{0:T(128)}, s32[]) while(%outer.start), condition=%outer_condition, body=%outer_body
  %y = f32[4]{0:T(128)} get-tuple-element(%outer), index=1
  %known.start = (s32[], f32[4]{0:T(128)}) tuple(%n, %y)
  %known = (s32[], f32[4]{0:T(128)}) while(%known.start), condition=%inner_condition, body=%inner_body, \
backend_config={"known_trip_count":{"n":"7"}}
  %data.start = (s32[], f32[4]{0:T(128)}) tuple(%n, %y)
  %data = (s32[], f32[4]{0:T(128)}) while(%data.start), condition=%inner_condition, body=%inner_body
  ROOT %z = f32[4]{0:T(128)} get-tuple-element(%data), index=1
}
"""


def test_trip_counts_come_from_start_step_and_bound():
    """`i < 8` in steps of 2 runs four times; `4 > -1` downwards five times; a note of the compiler wins."""
    assert loops.trip_counts(hlo.parse(LOOPS)) == {"inner": 4, "outer": 5, "known": 7, "data": None}
    never = LOOPS.replace("%zero = s32[] constant(0)", "%zero = s32[] constant(8)")
    assert loops.trip_counts(hlo.parse(never))["inner"] == 0


def test_executions_multiply_and_stay_outside_fusions():
    counts = loops.executions(hlo.parse(LOOPS))
    assert counts == {"main": 1, "outer_body": 5, "inner_body": 5 * 4 + 7 + 1}


def test_every_branch_of_a_conditional_counts_once():
    text = """\
HloModule branches

%left (p: f32[]) -> f32[] {
  ROOT %p = f32[] parameter(0)
}

%right (q: f32[]) -> f32[] {
  ROOT %q = f32[] parameter(0)
}

ENTRY %main (i: s32[], x: f32[]) -> f32[] {
  %i = s32[] parameter(0)
  %x = f32[] parameter(1)
  ROOT %r = f32[] conditional(%i, %x, %x), branch_computations={%left, %right}
}
"""
    assert loops.executions(hlo.parse(text)) == {"main": 1, "left": 1, "right": 1}
