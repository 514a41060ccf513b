"""Scores generated answers with the benchmarks' own code: the fixtures of selfextend-eval's metrics.

    python3 tools/scorers.py LEVAL LONGBENCH RULER BABILONG LM_EVAL crates/selfextend-eval/tests/scorers

The first five are folders: checkouts of OpenLMLab/LEval, THUDM/LongBench, NVIDIA/RULER and
booydar/babilong, and an installed or unpacked `lm_eval` package (PyPI lm-eval 0.4.13). Packages
that the authors' code needs: rouge 1.0.1, jieba 0.42.1, fuzzywuzzy 0.18.0 (without
python-Levenshtein), numpy. The answers are made from a fixed seed; every score is computed by the
authors' functions, which are taken out of their files and run here. One JSON file for each
benchmark: a list of cases {"scorer", "answer", "expected", "score", ...}, a line each.
"""
import ast
import contextlib
import importlib.util
import io
import json
import math
import random
import re
import sys
import types
from pathlib import Path

SEED = 20240107

NUMBERS = ["7", "12", "12.", "12.0", "1,200", "1200", "-3", "3/4", "$12", "12%", "\u0661\u0662",
           "\uff11\uff12", "\u00bd", "x\u00b2", "\u2460", "1e3", "0x10", "1_000", "1__0", "inf", "nan",
           " 7 ", "+5", "12th", "IV", "007", "3.14159", "12.50", ".5", "5.", "120", "#12", "12\u00a0345"]
WORDS = ["The", "the", "a", "an", "A", "An", "THE", "of", "is", "red", "Blue", "green,", "fox.", "fox",
         "quick", "caf\u00e9", "cafe\u0301", "na\u00efve", "\u0130stanbul", "stra\u00dfe", "STRASSE", "\ufb01n",
         "\u039f\u03a3", "\u03a3\u039f\u03a6\u039f\u03a3", "\u01c5", "hello_world", "don't", "it's", "\u00abquote\u00bb",
         "-", "\u2014", "\u2026", "\U0001f642", "U.S.A.", "e.g.", "(a)", "[the]", "'an'", "a-b", "the\u0301",
         "\u0915\u093f", "a\u0915\u093f", "\u0e01\u0e33", "_a_", "x1", "\u5317\u4eac", "the\u5317\u4eac", "and", "or"]
SPACES = [" ", " ", " ", " ", "  ", "\n", "\t", "\r\n", "\u00a0", "\u3000", "\u2028", "\x0b", "\x1c", "\x85",
          "\u200b", ""]
CHINESE = ["\u5317\u4eac\u662f\u4e2d\u56fd\u7684\u9996\u90fd", "\u4eba\u53e3\u8d85\u8fc7\u4e24\u5343\u4e07", "\u3002", "\uff0c", "\u300a\u7ea2\u697c\u68a6\u300b",
           "\u4f1a\u8bae\u8ba8\u8bba\u4e86\u660e\u5e74\u7684\u9884\u7b97", "2023\u5e745\u6708", "3.5%", "Rust\u8bed\u8a00", "\u4ed6\u6765\u5230\u4e86\u7f51\u6613\u676d\u7814\u5927\u53a6",
           "\u6bb5\u843d12", "\u6bb5\u843d 3", "\u3010\u6ce8\u3011", "\u5c0f\u660e\u7855\u58eb\u6bd5\u4e1a\u4e8e\u4e2d\u56fd\u79d1\u5b66\u9662", "\u963f\u91cc\u5df4\u5df4", "\uff01", "\u4e86", "\u7684", "ABC",
           "\U00020000", "\u6771\u4eac\u30bf\u30ef\u30fc", "\uff21\uff11", "\n", " ", "."]
CODE = ["return x + 1", "    return x+1", "def f(a, b):", "```python", "# comment", "// c", "x = [1, 2]",
        "print('a')", "for i in range(10):", "    pass", "", "self.assertEqual(a, b)", "int main() {",
        "a" * 250, "x = \"" + "ab" * 130 + "\"", "\u00e9 = 1", "\tif (x) {", "}"]
LETTERS = ["A", "B", "C", "D", "E", "a", "b", "A.", "B)", "(C)", "D ", "AB", "BD", "ABD", "B, D", "A and C",
           "\u0391", "A\u00a0", "C\x1c", "Question", "The answer is", "None", "option", "I think", "Because",
           "BAD", "ACE.", "D:", "X.", "Both", "CD\n", "*B*", "B\uff0e"]


class Texts:
    """Random texts from pieces."""

    def __init__(self, rng):
        self.rng = rng

    def of(self, *pools, least=0, most=8):
        count = self.rng.randint(least, most)
        text = ""
        for n in range(count):
            if n > 0:
                text += self.rng.choice(SPACES)
            text += self.rng.choice(self.rng.choice(pools))
        return text

    def near(self, text):
        """The text with a few characters changed."""
        letters = list(text)
        for _ in range(self.rng.randint(0, 4)):
            at = self.rng.randint(0, len(letters))
            kind = self.rng.randint(0, 2)
            if kind == 0 or not letters:
                letters.insert(at, self.rng.choice(" .,aA\u00e9\n1"))
            elif kind == 1:
                letters.pop(min(at, len(letters) - 1))
            else:
                letters[min(at, len(letters) - 1)] = self.rng.choice("aeTx .")
        return "".join(letters)

    def chance(self, share):
        return self.rng.random() < share


def module(path):
    spec = importlib.util.spec_from_file_location(path.stem + "_of_authors", path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def functions(path, names, scope):
    """Functions and methods of a file that cannot be imported whole, by name."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and names(node):
            node.decorator_list = []
            node.returns = None
            for argument in node.args.args:
                argument.annotation = None
            code = compile(ast.Module([node], []), str(path), "exec")
            exec(code, scope)
    return types.SimpleNamespace(**scope)


def quiet(run, *arguments):
    with contextlib.redirect_stdout(io.StringIO()):
        return run(*arguments)


def leval(root, texts):
    em = module(root / "Evaluation/em.py")
    arguments = types.SimpleNamespace(pred_file="")
    auto = functions(root / "Evaluation/auto_eval.py", lambda node: node.name.startswith("process_"),
                     {"re": re, "args": arguments})

    def exact(prediction, expected):
        return quiet(em.exact_match_score, prediction, expected)

    def choice(task):
        answer = texts.of(LETTERS, LETTERS, WORDS, most=5)
        several = task == "coursera"
        pool = ["A", "B", "C", "D", "AB", "BD", "ABC", "(B) Their", "A. one", "D"] if several else \
            ["A", "B", "C", "D", "(B) Their subconscious", "C. no", "B", "because"]
        expected = texts.rng.choice(pool)
        arguments.pred_file = task + ".pred.jsonl"
        return answer, expected, exact(auto.process_output_mc(answer), auto.process_gt_mc(expected))

    def math_answer():
        number = texts.rng.choice(NUMBERS)
        answer = texts.of(NUMBERS, WORDS, ["The answer is", "3+4=7.", "=", "\n\n", "so"], most=7)
        if texts.chance(0.5):
            answer += texts.rng.choice([" The answer is ", "\nThe answer is ", "\n\nThe answer is\n"]) \
                + texts.rng.choice([number, number + ".", "$" + number, "", number + " apples."])
        expected = texts.rng.choice(["so 3+4=7\nThe answer is " + number, "The answer is 12", number, "It costs 120",
                                     "x = 5. The answer is 1,200."])
        return answer, expected, exact(auto.process_math(answer), auto.process_math(expected))

    def code():
        values = ["[1, 2, 3]", "[[1, 2], [3]]", "'abc'", "12.0", "None", "{1: 2}", "-4", "[ [1 ] ]", "True", "a b c"]
        expected = texts.rng.choice(values)
        answer = texts.of(["the final output", "printed", "is", "will be", "of the code", "the value of", "this"],
                          values, WORDS, NUMBERS, most=8)
        if texts.chance(0.4):
            answer += texts.rng.choice([" is ", ": ", "\n"]) + expected + texts.rng.choice(["", ".", "\n"])
        return answer, expected, exact(auto.process_output_code(answer, expected), auto.process_gt_code(expected))

    def judgement(side):
        words = ["True", "False", "true.", "FALSE", "untrue", "It is", "not", "[fact:", "maybe", "falsehood", "T"]
        answer = texts.of(words, WORDS, most=4)
        expected = [texts.rng.choice(["True", "False"]) for _ in range(2)]
        said = [answer, "x"] if side == 0 else ["x", answer]
        said = auto.process_output_judge(f"{said[0]} [fact: {said[1]}]")
        right = auto.process_gt_judge(f"{expected[0]} [fact: {expected[1]}]")
        return answer, expected[side], exact(said[side], right[side])

    def other():
        expected = texts.of(WORDS, NUMBERS, LETTERS, least=1, most=3)
        answer = texts.of(WORDS, NUMBERS, LETTERS, most=5)
        if texts.chance(0.5):
            answer += texts.rng.choice(["", " ", "\n"]) + texts.near(expected)
        return answer, expected, exact(answer, expected)

    tasks = {"coursera": lambda: choice("coursera"), "quality": lambda: choice("quality"), "gsm100": math_answer,
             "codeU": code, "sci_fi": lambda: judgement(0), "sci_fi-fact": lambda: judgement(1),
             "topic_retrieval_longchat": other}
    for task, make in tasks.items():
        for _ in range(180):
            answer, expected, score = make()
            yield {"scorer": task, "answer": answer, "expected": expected, "score": score}


def longbench(root, texts):
    metrics = module(root / "LongBench/metrics.py")
    metrics.jieba.setLogLevel("ERROR")
    classes = ["Food", "Other food", "Sport", "Date", "Date of birth", "Food", "food", "A"]

    def prose(least=0):
        return texts.of(WORDS, WORDS, NUMBERS, ["voters went home.", "The senator said no.", "yes!"], least=least, most=14)

    def pair(make):
        expected = make(1)
        return (texts.near(expected) if texts.chance(0.4) else make(0)), expected

    def chinese(least):
        return "".join(texts.rng.choice(CHINESE) for _ in range(texts.rng.randint(least, 10)))

    def lines(least):
        count = texts.rng.randint(least, 4)
        return "\n".join(texts.rng.choice(CODE) for _ in range(count))

    def code():
        expected = texts.rng.choice(CODE)
        answer = lines(0)
        if texts.chance(0.5):
            answer = "\n" * texts.rng.randint(0, 2) + texts.near(expected) + "\n" + answer
        return answer, expected

    def paragraph(word):
        number = texts.rng.randint(1, 30)
        answer = texts.of(NUMBERS, [word, str(number), f"{word} {number}", f"{word}{number}."], WORDS, most=5)
        return answer, f"{word}{number}"

    makers = {
        "qa_f1_score": lambda: pair(prose),
        "rouge_score": lambda: pair(prose),
        "qa_f1_zh_score": lambda: pair(chinese),
        "rouge_zh_score": lambda: pair(chinese),
        "classification_score": lambda: (texts.of(classes, WORDS, most=5), texts.rng.choice(classes)),
        "retrieval_score": lambda: paragraph("Paragraph "),
        "retrieval_zh_score": lambda: paragraph("\u6bb5\u843d"),
        "count_score": lambda: (texts.of(NUMBERS, ["7", "12"], WORDS, most=6), texts.rng.choice(["7", "12"])),
        "code_sim_score": code,
    }
    for name, make in makers.items():
        for _ in range(130):
            answer, expected = make()
            score = getattr(metrics, name)(answer, expected, all_classes=classes)
            case = {"scorer": name, "answer": answer, "expected": expected, "score": score}
            if name == "classification_score":
                case["classes"] = classes
            yield case
    v2 = functions(root / "pred.py", lambda node: node.name == "extract_answer", {"re": re})
    says = ["The correct answer is", "The correct answer is (", "the correct answer is", "**", "*", "(A)", "(B", "B)", "C",
            "D.", "(E)", "insert answer here", "Answer:", "is", "\n", "The correct answer is\n"]
    for _ in range(1000):
        answer, expected = texts.of(says, says, LETTERS, most=6), texts.rng.choice("ABCD")
        if texts.chance(0.5):
            answer += texts.rng.choice([" The correct answer is ", "The correct answer is ("]) \
                + texts.rng.choice("ABCDEa") + texts.rng.choice(["", ")", ".", "*"])
        yield {"scorer": "v2", "answer": answer, "expected": expected,
               "score": int(v2.extract_answer(answer.strip()) == expected)}


def ruler(root, texts):
    constants = module(root / "scripts/eval/synthetic/constants.py")
    evaluate = functions(root / "scripts/eval/evaluate.py", lambda node: node.name == "postprocess_pred", {"re": re})
    for name in ["string_match_all", "string_match_part"]:
        for _ in range(500):
            expected = [texts.of(WORDS, NUMBERS, ["\x01", "k\u0307ey"], least=1, most=2)
                        for _ in range(texts.rng.randint(1, 4))]
            answer = texts.of(WORDS, NUMBERS, ["\x00", "\x1f", "\x07x"], expected, most=8)
            # In percent, rounded to two digits.
            score = getattr(constants, name)([evaluate.postprocess_pred(answer, {})], [expected])
            yield {"scorer": name, "answer": answer, "expected": expected, "score": score}


def babilong(root, texts):
    metrics = module(root / "babilong/metrics.py")
    more = ["The most recent location of", "Mary", "is", "<context>", "<example>", "Question", "question", "Answer:",
            ".", "the", "moved to the", "no,", "e,n", "s,w"]
    for _ in range(1100):
        task = texts.rng.choice(list(metrics.TASK_LABELS))
        labels = metrics.TASK_LABELS[task]
        expected = texts.rng.choice(labels)
        if task == "qa8" and texts.chance(0.5):
            expected = ",".join(texts.rng.sample(labels[:3], texts.rng.randint(2, 3)))
        question = "Where was " + texts.rng.choice(["Mary", *labels]) + " before the " + texts.rng.choice(labels) + "?"
        if texts.chance(0.4):
            question = "Where is it?"
        said = texts.rng.choice([expected, expected.upper(), texts.rng.choice(labels)])
        answer = texts.rng.choice([said, said + ".", texts.of(more, labels, most=5),
                                   texts.of(more, most=3) + " " + said + texts.of(more, most=3)])
        score = metrics.compare_answers(expected, answer, question, labels)
        yield {"scorer": task, "answer": answer, "expected": expected, "question": question, "labels": labels, "score": int(score)}


def lm_eval(root, texts):
    import numpy as np

    task = functions(root / "api/task.py", lambda node: node.name == "process_results" and "multiple_target" in ast.dump(node),
                     {"np": np, "utils": types.SimpleNamespace(softmax=lambda x: x), "eval_logger": None})
    metrics = functions(root / "api/metrics.py",
                        lambda node: node.name in ("mean", "perplexity", "weighted_mean", "weighted_perplexity", "bits_per_byte"),
                        {"math": math})
    rng = texts.rng

    def value():
        # Few distinct values, so that some are equal.
        return rng.choice([-rng.randint(1, 8) / 2, -rng.random() * 20, -4.0])

    for _ in range(1000):
        choices = [texts.of(WORDS, NUMBERS, ["n\u00e9", "abc", "\u5317\u4eac", "x"], least=1, most=3) or "x"
                   for _ in range(rng.randint(2, 5))]
        gold = rng.randrange(len(choices))
        results = [(value(), rng.random() < 0.5) for _ in choices]
        asked = types.SimpleNamespace(
            config=types.SimpleNamespace(process_results=None), OUTPUT_TYPE="multiple_choice",
            _metric_fn_list=dict.fromkeys(["acc", "acc_norm", "acc_bytes"]), multiple_input=False, multiple_target=False,
            doc_to_choice=lambda doc: choices, doc_to_target=lambda doc: gold)
        with np.errstate(all="ignore"):
            scores = task.process_results(asked, {}, results)
        yield {"scorer": "multiple_choice", "choices": choices, "gold": gold,
               "log_likelihoods": [result[0] for result in results], **scores}
    for _ in range(50):
        # Each text: its summed log-likelihood, and how many words or bytes (here tokens) it has.
        items = [(value() * 10, rng.randint(1, 40)) for _ in range(rng.randint(1, 9))]
        yield {"scorer": "perplexity", "items": items, "perplexity": metrics.perplexity([item[0] for item in items]),
               "weighted_perplexity": metrics.weighted_perplexity(items), "bits_per_byte": metrics.bits_per_byte(items)}


def main():
    *roots, out = map(Path, sys.argv[1:])
    out.mkdir(parents=True, exist_ok=True)
    for make, root in zip([leval, longbench, ruler, babilong, lm_eval], roots, strict=True):
        texts = Texts(random.Random(f"{SEED} {make.__name__}"))
        cases = list(make(root, texts))
        lines = ",\n".join(json.dumps(case, ensure_ascii=True) for case in cases)
        (out / f"{make.__name__}.json").write_text(f"[\n{lines}\n]\n")
        print(f"{make.__name__}: {len(cases)} cases, {sum(case.get('score', 0) for case in cases):.1f} in all", file=sys.stderr)


main()
