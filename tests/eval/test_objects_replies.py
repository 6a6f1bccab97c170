"""What a judge writes → phrases, as published and mended."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.objects.replies import REPLIES, phrases, phrases_as_published


@pytest.mark.parametrize(
    ("reply", "published", "mended"),
    [
        ('["dog", "cat"]', ["dog", "cat"], ["dog", "cat"]),
        (' ["dog"]\n', ["dog"], ["dog"]),
        ("[]", [], []),
        ('Here it is:\n["dog"]', ["dog"], ["dog"]),
        ('```json\n["dog"]\n```', None, ["dog"]),
        ('["dog"]\nThese are all.', None, ["dog"]),
        ('The objects are ["dog", "cat"], nothing else.', None, ["dog", "cat"]),
        ("['dog', \"child's toy\"]", None, ["dog", "child's toy"]),
        ('["dog", "cat",]', None, ["dog", "cat"]),
        ("()", None, []),
        ("```\n( )\n```", None, []),
        ("", None, None),
        ("There are none.", None, None),
        ("null", None, None),  # the original breaks off
        ("3", None, None),
        ("[1, 2]", None, None),
        ('["dog", 2]', None, None),
        ('[["dog"]]', None, ["dog"]),
        ('{"dog": 1, "cat": 2}', ["dog", "cat"], None),
        ('{"objects": ["dog"]}', ["objects"], ["dog"]),
        ('"dog"', ["d", "o", "g"], None),
        ('["dog" "cat"]', None, None),
        ("[dog, cat]", None, None),
        ('First ["dog"]; or rather ["cat"]', None, ["cat"]),
        ('["a [small] dog"]', ["a [small] dog"], ["a [small] dog"]),
        ('["caf\\u00e9", "a \\"sign\\""]', ["café", 'a "sign"'], ["café", 'a "sign"']),
        ('["dog",\n "cat"]', ["dog", "cat"], ["dog", "cat"]),
        ('The list:\n["dog",\n "cat"]', None, ["dog", "cat"]),
    ],
)
def test_replies(reply, published, mended):
    assert phrases_as_published(reply) == published
    assert phrases(reply) == mended


@given(st.text(alphabet="[]()\"',\\ \nadog`{}1", max_size=60))
def test_any_text_is_a_list_of_texts_or_nothing(reply):
    for parse in REPLIES.values():
        listed = parse(reply)
        assert listed is None or all(isinstance(phrase, str) for phrase in listed)


@pytest.mark.parametrize("reply", ["[" * 100_000, '["' + "a" * 100_000, "['a', " * 20_000])
def test_long_nonsense_is_nothing(reply):
    assert phrases_as_published(reply) is None
    assert phrases(reply) is None
