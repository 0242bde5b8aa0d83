"""FewCLUE (Xu et al. 2021, table 1): tasks with few training rows, scored on the public test set.

The training and dev files are all five of the release together (train_few_all.json, dev_few_all.json), and the score is
that of test_public.json, as in the paper; the server scores test.json. The names end in "few-shot", so that they are
not taken for CLUE's.
"""

from dataclasses import replace
from typing import Any

from sesame.evaluation.tasks.clue import CLUEWSC, IFLYTEK, NLI, PAIR, TNEWS
from sesame.evaluation.tasks.task import Blank, Column, Indices, KindName, Table, Task

CSLDCP = (
    "材料科学与工程", "作物学", "口腔医学", "药学", "教育学", "水利工程", "理论经济学", "食品科学与工程",
    "畜牧学/兽医学", "体育学", "核科学与技术", "力学", "园艺学", "水产", "法学", "地质学/地质资源与地质工程",
    "石油与天然气工程", "农林经济管理", "信息与通信工程", "图书馆、情报与档案管理", "政治学", "电气工程",
    "海洋科学", "民族学", "航空宇航科学与技术", "化学/化学工程与技术", "哲学", "公共卫生与预防医学", "艺术学",
    "农业工程", "船舶与海洋工程", "计算机科学与技术", "冶金工程", "交通运输工程", "动力工程及工程热物理",
    "纺织科学与工程", "建筑学", "环境科学与工程", "公共管理", "数学", "物理学", "林学/林业工程", "心理学",
    "历史学", "工商管理", "应用经济学", "中医学/中药学", "天文学", "机械工程", "土木工程", "光学工程", "地理学",
    "农业资源利用", "生物学/生物科学与工程", "兵器科学与技术", "矿业工程", "大气科学", "基础医学/临床医学",
    "电子科学与技术", "测绘科学与技术", "控制科学与工程", "军事学", "中国语言文学", "新闻传播学", "社会学",
    "地球物理学", "植物保护",
)  # fmt: skip


def _task(
    name: str,
    texts: tuple[Column, ...],
    labels: tuple[str, ...] = (),
    *,
    rows: int,
    predictions: str = "",
    indices: Indices = Indices(),
    kind: KindName = "classify",
    label: str = "label",
    candidates: int | None = None,
    **rest: Any,
) -> Task:
    folder = f"FewCLUE/{name}"
    test = Table(f"{folder}/test.json", texts, index="id", rows=rows, indices=indices, answer_key=label, **rest)
    return Task(
        f"{name}-few-shot",
        ("accuracy",),
        train=Table(f"{folder}/train_few_all.json", texts, label, **rest),
        dev={"": Table(f"{folder}/test_public.json", texts, label, **rest)},
        test={f"{predictions or name}_predict": replace(test, candidates=candidates)},
        labels=labels,
        kind=kind,
    )


ROWS = (
    _task(
        "eprstmt",
        ("sentence",),
        ("Negative", "Positive"),
        rows=753,
        indices=Indices(sha256="70d3c2c4acd40c8d88b1dab71a44c3c88c5cf68fe6421119e77a59ccecd18e2d"),
    ),
    _task(
        "csldcp",
        ("content",),
        CSLDCP,
        rows=2999,
        indices=Indices(sha256="9835612f80027fb5f599c8fe22c40db588b325eebcc399dd35b30603e0e4ae41"),
    ),
    _task("tnews", ("sentence",), TNEWS, rows=1500, predictions="tnewsf"),
    _task("iflytek", ("sentence",), IFLYTEK, rows=2600, predictions="iflytekf"),
    _task("ocnli", PAIR, NLI, rows=3000, predictions="ocnlif"),
    _task("bustm", PAIR, ("0", "1"), rows=2000, indices=Indices(first=3000)),
    _task(
        "chid",
        ("content",),
        rows=2000,
        predictions="chidf",
        indices=Indices(first=3000),
        kind="choose",
        label="answer",
        choices=("candidates",),
        candidates=7,
        blank=Blank("content", "#idiom#"),
    ),
    _task(
        "csl",
        ("{keyword}", "abst"),
        ("0", "1"),
        rows=3000,
        predictions="cslf",
        indices=Indices(sha256="77db5f6fae92564b60758622bb7f3082e8ede00141a81d02782497faa54aaecf"),
    ),
    _task(
        "cluewsc",
        ("text",),
        ("false", "true"),
        rows=290,
        predictions="cluewscf",
        indices=Indices(first=1),
        kind="spans",
        spans=CLUEWSC,
    ),
)
