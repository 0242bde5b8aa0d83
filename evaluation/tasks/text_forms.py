"""Tasks as text to text, in the words of T5 (Raffel et al. 2020, section 2.4 and appendix D, and its published code).

The input is a sentence with the name of the task, the target one word for each class. STS-B's target is its score,
rounded to 0.2; WSC's the noun that the pronoun stands for, trained on the rows in which the named one is right; that of
ReCoRD an entity, with a training row for each right one. WNLI is not trained in the paper; its form is that of the
code's other pairs. COPA's words are the classes of TensorFlow Datasets (super_glue 1.0.2), which the code writes; the
paper's example has "True" for the second choice.
"""

from dataclasses import replace

from sesame.configs.errors import ConfigError
from sesame.evaluation.tasks.superglue import MULTIRC
from sesame.evaluation.tasks.task import Column, Table, Task, TextForm

BOOLEAN = ("False", "True")
NLI = ("not_entailment", "entailment")
HTML = ((r"<br>", " "), (r"</?b>", ""))

FORMS: dict[str, TextForm] = {
    "CoLA": TextForm("cola sentence: {0}", ("unacceptable", "acceptable")),
    "SST-2": TextForm("sst2 sentence: {0}", ("negative", "positive")),
    "MRPC": TextForm("mrpc sentence1: {0} sentence2: {1}", ("not_equivalent", "equivalent")),
    "STS-B": TextForm(
        "stsb sentence1: {0} sentence2: {1}", tuple(f"{score / 5:.1f}" for score in range(26)), target="number"
    ),
    "QQP": TextForm("qqp question1: {0} question2: {1}", ("not_duplicate", "duplicate")),
    "MNLI": TextForm("mnli hypothesis: {1} premise: {0}", ("contradiction", "entailment", "neutral")),
    "QNLI": TextForm("qnli question: {0} sentence: {1}", NLI),
    "RTE": TextForm("rte sentence1: {0} sentence2: {1}", NLI),
    "WNLI": TextForm("wnli sentence1: {0} sentence2: {1}", NLI),
    "BoolQ": TextForm("boolq passage: {1} question: {0}", BOOLEAN),
    "CB": TextForm("cb hypothesis: {1} premise: {0}", ("contradiction", "entailment", "neutral")),
    "COPA": TextForm(
        "copa choice1: {0} choice2: {1} premise: {2} question: {3}",
        ("choice1", "choice2"),
        texts=("choice1", "choice2", "premise", "question"),
    ),
    "MultiRC": TextForm(
        "multirc question: {0} answer: {1} paragraph: {2}",
        BOOLEAN,
        texts=("passage.questions.*.question", f"{MULTIRC}.*.text", "passage.text"),
        replacements=HTML,
    ),
    "ReCoRD": TextForm(
        "record query: {0} entities: {1} passage: {2}",
        texts=("qas.*.query", "{choices}", "passage.text"),
        target="answer",
    ),
    "SuperGLUE-RTE": TextForm("rte hypothesis: {1} premise: {0}", NLI),
    "WiC": TextForm("wic sentence1: {0} sentence2: {1} word: {2}", BOOLEAN, texts=("sentence1", "sentence2", "word")),
    "WSC": TextForm("wsc: {0}", target="referent"),
}
"""By name of the task; the words are in the order of ``Task.labels``."""


def as_text(task: Task) -> Task:
    """Return the row of a task that a decoder answers in words.

    Raises:
        ConfigError: there is no form for it.
    """
    form = FORMS.get(task.name)
    if form is None:
        raise ConfigError(
            f"finetune.form 'text': {task.name} has no form as text; those of T5's paper are {', '.join(FORMS)}; "
            f'set form = "head" under [tasks.{task.name}]'
        )
    dev = {prefix: _table(table, form) for prefix, table in task.dev.items()}
    test = {name: _table(table, form) for name, table in task.test.items()}
    train = None if task.train is None else _table(task.train, form)
    labels = task.labels or (("0", "1") if task.kind == "choose" and form.words else ())
    return replace(task, train=train, dev=dev, test=test, labels=labels, text=form)


def _table(table: Table, form: TextForm) -> Table:
    texts: tuple[Column, ...] = form.texts or table.texts
    # The pronoun is marked in the text at its span; other spans are not used.
    spans = table.spans if form.target == "referent" else ()
    return replace(table, texts=texts, spans=spans, blank=None, replacements=(*table.replacements, *form.replacements))
