"""Every key that making feedback can have, with its default. Experiments import this and change what they need.

Where a default equals the original's (script/data_gen and utils of RLAIF-V), nothing is said.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0
    config.output_dir = "out/feedback"  # gets a directory for each stage; gs://… or on a disk that all processes share
    config.shard_answers = 1000  # answers in a file

    # What to judge: answers that rlaifv_jax.generate or the original has written. Without them `all` makes some first,
    # from questions. Where answers are given, the file of questions only helps to find their pictures.
    config.candidates = ""
    config.questions = ""  # also --questions
    config.update({"start": 0, "end": -1})  # rows of it that are asked; -1: to the last
    config.image_folder = ""  # where relative picture paths may start, beside the folders of questions and answers

    # Who answers the questions, with rlaifv_jax.generate.
    config.policy = ConfigDict({"model": "", "vision_path": "", "template": "", "image_aspect_ratio": ""})
    config.policy.n = 10
    config.policy.temperature = 0.7
    config.policy.max_new_tokens = 512
    config.policy.repetition_penalty = 0.0  # 0: that of generation_config.json, else none
    config.policy.slots = 0  # questions at once; 0: what memory holds
    config.policy.branches = 0  # answers to a question at once; 0: half of them
    config.policy.update({"dtype": "", "cache": "", "tensor": 0})

    # Answers → claims, and claims → questions. Each by a language model on these devices (`model`: directory or hub
    # id), by one behind an OpenAI-compatible server (`server`: its base URL; the key comes from OPENAI_API_KEY), or by
    # a Python function (`function`: module:name).
    for stage in ("divide", "question"):
        config[stage] = ConfigDict({"input": "", "model": "", "server": "", "function": "", "template": ""})
        config[stage].prompt = ""  # template file; empty: the protocol of the published models
        config[stage].temperature = 0.2
        config[stage].top_p = 0.9
        config[stage].max_new_tokens = 256
        config[stage].update({"dtype": "", "cache": "", "tensor": 0, "slots": 0})  # on devices
        config[stage].update({"requests_per_minute": 0.0, "concurrency": 8, "retries": 6, "timeout": 120.0})  # server
    config.divide.pieces = 300  # blank-separated pieces of the prompt that are kept; 0: all. What is cut is counted
    config.question.mismatch = "repair"  # where claims and questions are not as many; or 'report', 'zip'
    config.legacy_bullet_parsing = False  # read lists as the original does, first letters lost and all

    # The labeler: any vision-language model of this project, or one behind an OpenAI-compatible server.
    config.score = ConfigDict({"input": "", "model": "", "server": "", "vision_path": "", "template": ""})
    config.score.prompt = ""  # template file; empty: '{question} Please answer yes or no.'
    config.score.image_aspect_ratio = ""  # as the family generates; or 'pad', 'crop', 'squash', 'anyres', 'slices'
    config.score.row_length = 0  # positions of a row that several pictures share; 0: a row for each, of at most
    config.score.longest_row = 8192  # so many. Claims that do not fit go to another row, behind the picture again
    config.score.update({"dtype": "", "tensor": 0})
    config.score.verdict = "logprobs"  # of a server: by the first token's probabilities; or by the 'text' of the reply
    config.score.top_logprobs = 20  # of the likeliest tokens that a server tells of; some tell fewer
    config.score.max_new_tokens = 8  # of a reply in text; its first word counts
    config.score.require_model = False  # whether a reply by a model of another name is an error
    config.score.update({"requests_per_minute": 0.0, "concurrency": 8, "retries": 6, "timeout": 120.0})  # server

    config.pairs = ConfigDict({"answers": "", "feedback": ""})  # empty: what the stages before have written
    config.pairs.score = "rejected_count"  # or 'claim_fraction', with pairs.difference=0.01 or so
    config.pairs.difference = 1.0  # least difference of scores
    config.pairs.cap = 2  # pairs that are kept; 0: all
    config.pairs.cap_by = "image"  # of all questions about a picture together, or of each 'question'
    config.pairs.consistent = True  # leave out answers whose verdicts and claims are not as many
    config.pairs.balance = "one_sided"  # of lengths; or 'two_sided', 'none'
    config.pairs.tolerance = 0.01  # of 'two_sided': difference of mean lengths, relative, that is as good as none
    config.pairs.name = "rlaifv-jax"  # ds_name of the rows
    config.pairs.shard_rows = 5000  # pairs in a file

    # Choose the best of several answers to a question by what training has changed in a model.
    config.best_of_n = ConfigDict({"input": "", "policy": "", "reference": "", "vision_path": "", "template": ""})
    config.best_of_n.by = "reward"  # log π - log π_ref a token; or 'likelihood': log π a token
    config.best_of_n.n = 0  # the first n answers; 0: all
    config.best_of_n.image_aspect_ratio = ""
    config.best_of_n.update({"dtype": "", "tensor": 0, "row_length": 0, "longest_row": 8192})
    return config.lock()
