"""Scores on a shared prefix: those of each claim alone, those of transformers, whatever is asked beside."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rlaifv_jax.data.images import center_crop, pad_to_square
from rlaifv_jax.data.questions import Questions
from rlaifv_jax.data.templates import LLAVA_V1, Turn
from rlaifv_jax.errors import UserError
from rlaifv_jax.models.hf_config import CLIP_MEAN, CLIP_STD
from rlaifv_jax.models.seeing import normalize
from tests.feedback.chain import make, make_config, read_lines, read_stage, write_answers, write_lines
from tests.sampling.talker import Talker


@pytest.fixture(scope="module")
def scored(talker: Talker, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """The folder of a chain, and the feedback in it."""
    folder = tmp_path_factory.mktemp("scored")
    write_answers(folder)
    out = make(make_config(folder, talker.folder), "divide", "question", "score")
    return folder, read_stage(out / "score")


def scores(records: list[dict[str, Any]]) -> np.ndarray:
    return np.array([[record["scores"][word] for word in ("yes", "Yes", "no", "No")] for record in records])


def test_records_are_the_original_s(scored: tuple[Path, list[dict[str, Any]]], talker: Talker) -> None:
    folder, records = scored
    first = records[0]
    names = ["question_id", "ds_question_id", "raw_question", "answer", "scores", "metainfos", "model_path", "margin"]
    assert list(first) == names
    assert first["raw_question"] == "is there in the top left a large red circle ? Please answer yes or no."
    assert first["metainfos"]["image_path"] == "0.png"
    deep = first["metainfos"]["metainfos"]
    assert deep["origin_question"] == "describe the image ."
    assert deep["origin_fact"] == "there is a large red circle in the top left ."
    assert deep["origin_all_facts"] == [deep["origin_fact"]]
    assert first["model_path"] == str(talker.folder)
    answers = read_lines(folder / "answers.jsonl")
    assert len(records) == sum(record["answer"].count(".") for record in answers)
    assert first["margin"] == pytest.approx(first["scores"]["yes"] - first["scores"]["no"])


def test_a_claim_alone_has_the_same_score(
    scored: tuple[Path, list[dict[str, Any]]], talker: Talker, tmp_path: Path
) -> None:
    folder, records = scored
    for row in (0, 5, 17, len(records) - 1):
        item = read_lines(write_lines(tmp_path / "item.jsonl", [item_of(records[row])]))
        config = make_config(
            folder, talker.folder, score__input=str(tmp_path / "item.jsonl"), output_dir=str(tmp_path / f"out{row}")
        )
        (alone,) = read_stage(make(config, "score") / "score")
        assert alone["raw_question"] == item[0]["question"]
        np.testing.assert_allclose(scores([alone]), scores([records[row]]), atol=1e-5)
        assert alone["answer"] == records[row]["answer"]


def item_of(record: dict[str, Any]) -> dict[str, Any]:
    """The yes/no item that a feedback record answers, as the original's .qas.jsonl has it."""
    return {**record["metainfos"], "question": record["raw_question"]}


def test_scores_are_those_of_transformers(scored: tuple[Path, list[dict[str, Any]]], talker: Talker) -> None:
    torch = pytest.importorskip("torch")
    from transformers import LlavaForConditionalGeneration

    folder, records = scored
    hf = LlavaForConditionalGeneration.from_pretrained(talker.exported, dtype=torch.float32).eval()
    encode, image = talker.prompter.tokenizer.encode, hf.config.image_token_id
    yes, no = encode("a yes")[-1], encode("a no")[-1]
    for record in records[::7]:
        turns = [Turn("user", record["raw_question"])]
        before, after = LLAVA_V1.render_prompt(turns, image=True).split("<image>")
        ids = [*encode(before), *[image] * 9, *encode(after)[1:]]
        picture = pad_to_square(Image.open(folder / record["metainfos"]["image_path"]).convert("RGB"))
        pixels = np.asarray(normalize(center_crop(picture, 48), CLIP_MEAN, CLIP_STD)).transpose(2, 0, 1)[None]
        with torch.inference_mode():
            logits = hf(input_ids=torch.tensor([ids]), pixel_values=torch.from_numpy(pixels.copy())).logits[0, -1]
        rows = talker.stored.config.decoder.vocab_size  # the export has some more, which nobody says
        chances = torch.softmax(logits[:rows].float(), dim=-1)
        np.testing.assert_allclose(record["scores"]["yes"], chances[yes], atol=1e-5)
        np.testing.assert_allclose(record["scores"]["no"], chances[no], atol=1e-5)
        assert record["scores"]["Yes"] == record["scores"]["No"] == 0


def test_several_pictures_in_a_row(scored: tuple[Path, list[dict[str, Any]]], talker: Talker, tmp_path: Path) -> None:
    folder, records = scored
    question = str(folder / "out" / "question")
    for row_length, longest in ((512, 4096), (0, 64)):
        config = make_config(
            folder,
            talker.folder,
            score__input=question,
            score__row_length=row_length,
            score__longest_row=longest,
            output_dir=str(tmp_path / str(row_length)),
        )
        again = read_stage(make(config, "score") / "score")
        assert [record["raw_question"] for record in again] == [record["raw_question"] for record in records]
        np.testing.assert_allclose(scores(again), scores(records), atol=1e-5)


def test_pictures_that_are_not_there(talker: Talker, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_answers(tmp_path)
    (tmp_path / "2.png").unlink()
    (tmp_path / "4.png").write_text("no picture")
    config = make_config(tmp_path, talker.folder)
    with pytest.raises(
        UserError, match=r"not one pair is left: 24 answers; 60 claims; .*; 24 combinations with scores"
    ):
        make(config, "all")  # this labeler says yes to everything
    out = Path(config.output_dir)
    for record in read_stage(out / "score"):
        picture = record["metainfos"]["image_path"]
        assert ("error" in record) == (picture in ("2.png", "4.png"))
    errors = {record["error"] for record in read_stage(out / "score") if "error" in record}
    assert len(errors) == 2
    said = capsys.readouterr().err
    lost = sum("error" in record for record in read_stage(out / "score"))
    assert f"{lost} of 60 claims with an error" in said
    # It knows no words, and says so of the rest.
    assert f"{60 - lost} of 60 claims that the labeler answers with other words than yes and no" in said
    report = json.loads((out / "pairs" / "report.json").read_text())
    assert report["counts"]["answers with a claim that has an error"] == 8


def test_a_question_that_cannot_be_asked_costs_its_own_claim_only(talker: Talker, tmp_path: Path) -> None:
    answers = write_answers(tmp_path, 1)
    long = read_lines(answers)
    long[3]["answer"] = f"there is a {'very ' * 3000} large star ."
    long[2]["answer"] = "half \ud800 ."
    write_lines(answers, long)
    records = read_stage(make(make_config(tmp_path, talker.folder), "divide", "question", "score") / "score")
    failed = {record["question_id"]: record["error"] for record in records if "error" in record}
    assert failed.keys() == {2, 3}
    assert "prompt_too_long" in failed[3]
    assert "not_unicode" in failed[2]


def test_base64_questions_and_a_prompt_of_ones_own(talker: Talker, tmp_path: Path) -> None:
    """Answers do not repeat pictures that stood in the question file, so this one is looked up."""
    answers = read_lines(write_answers(tmp_path))
    for record in answers:
        del record["metainfos"]["image_path"]
    write_lines(tmp_path / "answers.jsonl", answers)
    questions = [
        {
            "ds_question_id": f"{n}.png",
            "question": "describe the image .",
            "image": base64.b64encode((tmp_path / f"{n}.png").read_bytes()).decode(),
        }
        for n in range(6)
    ]
    (tmp_path / "check.txt").write_text("{question}\n")
    config = make_config(
        tmp_path,
        talker.folder,
        questions=str(write_lines(tmp_path / "questions.jsonl", questions)),
        score__prompt=str(tmp_path / "check.txt"),
    )
    records = read_stage(make(config, "divide", "question", "score") / "score")
    assert not any("error" in record for record in records)
    assert records[0]["raw_question"] == "is there in the top left a large red circle ?"


def test_questions_of_the_same_words_about_pictures_that_only_they_name(talker: Talker, tmp_path: Path) -> None:
    """`image` alone, which answers do not repeat: the answers are told apart all the same."""
    answers = read_lines(write_answers(tmp_path, 2))
    rows = [{"question": "describe the image .", "image": "0.png"}, {"question": "describe the image ."}]
    rows[1]["image"] = base64.b64encode((tmp_path / "1.png").read_bytes()).decode()
    file = write_lines(tmp_path / "questions.jsonl", rows)
    questions = Questions(str(file))
    made = [
        record
        for number, question in enumerate(questions.asked)
        for record in questions.answers(question, [each["answer"] for each in answers[4 * number :][:4]], "policy")
    ]
    assert [record["ds_question_id"] for record in made[::4]] == ["0.png", made[-1]["ds_question_id"]]
    assert made[-1]["ds_question_id"].startswith("image-")
    write_lines(tmp_path / "answers.jsonl", made)
    config = make_config(tmp_path, talker.folder, questions=str(file))
    records = read_stage(make(config, "divide", "question", "score") / "score")
    straight = make_config(tmp_path, talker.folder, output_dir=str(tmp_path / "straight"))
    write_lines(tmp_path / "answers.jsonl", answers)
    np.testing.assert_allclose(
        scores(records), scores(read_stage(make(straight, "divide", "question", "score") / "score")), atol=1e-5
    )

    # as the original leaves them: nothing tells which picture they are about, and nobody guesses
    for record in made:
        del record["ds_question_id"]
    write_lines(tmp_path / "answers.jsonl", made)
    config = make_config(tmp_path, talker.folder, questions=str(file), output_dir=str(tmp_path / "unnamed"))
    records = read_stage(make(config, "divide", "question", "score") / "score")
    assert all("does not say which of several pictures" in record["error"] for record in records)


def test_pictures_beside_the_input_of_a_later_stage(talker: Talker, tmp_path: Path) -> None:
    write_answers(tmp_path / "elsewhere")
    given = str(tmp_path / "elsewhere" / "answers.jsonl")
    config = make_config(tmp_path, talker.folder, candidates="", divide__input=given)
    records = read_stage(make(config, "divide", "question", "score") / "score")
    assert not any("error" in record for record in records)


def test_a_labeler_has_to_be_named(tmp_path: Path) -> None:
    write_answers(tmp_path)
    config = make_config(tmp_path)
    make(config, "divide", "question")
    with pytest.raises(UserError, match=r"score\.model is not set"):
        make(config, "score")


@pytest.mark.parametrize(
    ("key", "value"),
    [("row_length", 10), ("longest_row", 0), ("row_length", 9000), ("longest_row", 10**6), ("image_aspect_ratio", "x")],
)
def test_a_labeler_s_settings_that_mean_nothing(tmp_path: Path, key: str, value: Any) -> None:
    write_answers(tmp_path)
    config = make_config(tmp_path, "model", **{f"score__{key}": value, "score__input": str(tmp_path / "answers.jsonl")})
    with pytest.raises(UserError, match=rf"score\.{key} is "):
        make(config, "score")
