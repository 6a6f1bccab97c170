"""Measure how much a model makes up, and compare.

    python -m eval run mmhal --answers answers.jsonl --judge-model gpt-4-1106-preview --output out/eval/mmhal
    python -m eval run object_halbench --model openbmb/RLAIF-V-7B --output out/eval/halbench          without a judge
    python -m eval run refomb --model out/mine/weights/100 --judge-model gpt-4-1106-preview --repeat 3 --output out/r
    python -m eval all --model out/mine/weights/100 --output out/eval          everything whose data is there, one table
    python -m eval compare out/eval/mmhal out/base/mmhal                       side by side, with published figures
    python -m eval data refomb                                                 which files are needed, and from where

Judges are models behind any OpenAI-compatible server (OPENAI_BASE_URL, OPENAI_API_KEY, or --judge-server) or here
(--judge-local). --dry-run says how many calls a run would make. Every reply is kept; what failed is counted, shown and
asked again by the same command.

--mode compat scores as the originals' programs do, bit for bit, and is what published figures are comparable with.
--mode fixed mends their known faults.
"""

import sys

from rlaifv_jax.cli import guard_status


def main() -> None:
    """Entry of the console script `rlaifv-eval`."""
    from eval.flags import parse

    given = parse(sys.argv[1:], __doc__ or "")

    def command() -> int:
        from eval import commands

        return getattr(commands, given.verb)(given)

    sys.exit(guard_status(command))


if __name__ == "__main__":
    main()
