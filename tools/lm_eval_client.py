"""Runs EleutherAI's unmodified `lm_eval` against a running server, and compares with `selfextend eval choice`:

    python lm_eval_client.py URL BINARY MODEL QUESTIONS.jsonl [ITEMS [FLAGS OF EVAL]]

The questions are ../shared's (`query`, `choices`, `gold`). Choices must be the same for every item, and
log-likelihoods but for rounding; a generation must be what /v1/completions says."""

import json
import pathlib
import subprocess
import sys
import tempfile

import lm_eval
import requests
from lm_eval.tasks import TaskManager

url, binary, model, questions = sys.argv[1:5]
items = int(sys.argv[5]) if len(sys.argv) > 5 else 20
flags = sys.argv[6:]
place = pathlib.Path(tempfile.mkdtemp())
lines = pathlib.Path(questions).read_text().splitlines()[:items]
data = place / "questions.jsonl"
data.write_text("\n".join(lines) + "\n")

common = f"""
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
"""
(place / "choice.yaml").write_text(
    f"""task: local_choice
output_type: multiple_choice
{common}
doc_to_text: "{{{{query}}}}\\nAnswer:"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: gold
metric_list: [{{metric: acc}}, {{metric: acc_norm}}]
"""
)
(place / "generate.yaml").write_text(
    f"""task: local_generate
output_type: generate_until
{common}
doc_to_text: "{{{{query}}}}\\nAnswer:"
doc_to_target: "{{{{choices[gold]}}}}"
generation_kwargs: {{until: ["\\n\\n"], max_gen_toks: 12, do_sample: false}}
metric_list: [{{metric: exact_match}}]
"""
)
results = lm_eval.simple_evaluate(
    model="local-completions",
    model_args={
        "model": model,
        "base_url": url + "/v1/completions",
        "tokenizer_backend": "remote",
        "tokenized_requests": True,
        "num_concurrent": 4,
    },
    tasks=["local_choice", "local_generate"],
    task_manager=TaskManager(include_path=str(place), include_defaults=False),
    batch_size=3,
    bootstrap_iters=0,
    log_samples=True,
)
theirs = {
    sample["doc_id"]: [float(answer[0]) for answer in sample["filtered_resps"]]
    for sample in results["samples"]["local_choice"]
}

subprocess.run(
    [binary, "eval", "choice", str(data), "--items", "0", "-m", model, "--results", str(place / "ours.jsonl")]
    + ["--method", "plain", *flags],
    check=True,
)
records = [json.loads(line) for line in (place / "ours.jsonl").read_text().splitlines()]
ours = {record["index"]: record for record in records if "index" in record}
assert len(ours) == len(theirs) == len(lines), (len(ours), len(theirs))
# `eval choice` reads a continuation in a pass of its own. One of few tokens rounds activations differently,
# so the last digits differ; with --linear f32 on both sides they do not.
worst, exact = 0.0, "--linear" in flags
for index, record in ours.items():
    known = [choice["log_likelihood"] for choice in record["outcome"]["choice"]["choices"]]
    worst = max([worst] + [abs(a / b - 1) for a, b in zip(known, theirs[index], strict=True)])
    best = [max(range(len(values)), key=values.__getitem__) for values in (known, theirs[index])]
    assert best[0] == best[1], (index, known, theirs[index])
print(f"{len(ours)} questions: the same choices; log-likelihoods differ by at most {worst:.2g} of themselves")
assert worst < (1e-6 if exact else 1e-3)

for sample in results["samples"]["local_generate"]:
    prompt = sample["arguments"]["gen_args_0"]["arg_0"]
    body = {"prompt": prompt, "max_tokens": 12, "temperature": 0, "stop": ["\n\n"]}
    text = requests.post(url + "/v1/completions", json=body).json()["choices"][0]["text"]
    assert sample["resps"][0][0] == text, (sample["resps"], text)
print(f"lm_eval {lm_eval.__version__}: ok,", {name: values for name, values in results["results"].items()})
