"""``check`` on a model that comes alone, and what bad input gets."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from gapshift.errors import (
    ContractError,
    DataError,
    ModelFileError,
    SettingsError,
    UnknownNameError,
    WorkspaceError,
)
from gapshift.export.stamp import contract_to_toml, read_contract
from gapshift.flows.check import CheckRequest, check
from gapshift.records import read_items, write_items
from gapshift.schema import DataSource
from gapshift.workspace import Workspace


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 digits as PNG files in class folders."""
    folder = tmp_path_factory.mktemp("photos")
    digits = load_digits()
    for index in range(400):
        path = folder / str(digits.target[index]) / f"{index:04d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray((digits.images[index] * 255 / 16).astype(np.uint8)).save(path)
    return folder


@pytest.fixture(scope="module")
def levels(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An items.parquet for the photos: every fifth of them another level."""
    import pyarrow as pa

    from gapshift.records import ITEM_SCHEMA, write_items

    ids = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))
    columns = {"id": ids, "level": [1 + place % 5 for place in range(len(ids))]}
    nulls = [None] * len(ids)
    table = pa.table({name: columns.get(name, nulls) for name in ITEM_SCHEMA.names}, schema=ITEM_SCHEMA)
    path = tmp_path_factory.mktemp("levels") / "items.parquet"
    write_items(path, table, [])
    return path


@pytest.fixture
def request_(tiny_study: Path, photos: Path, levels: Path, tmp_path: Path) -> CheckRequest:
    return CheckRequest(
        model=tiny_study / "bundles" / "digits-cnn-random-s0.onnx",
        data=DataSource(source=str(photos)),
        out=tmp_path / "run",
        items=levels,
        environments=("onnxruntime-one-thread",),
    )


def test_an_equivalent_environment_passes_where_the_items_suffice(request_: CheckRequest) -> None:
    summary, paths = check(replace(request_, margin_pp=6.0))
    assert summary["verdict"] == "PASS"
    assert {path.name for path in paths.values()} == {"report.html", "report.md", "junit.xml"}
    assert all(path.exists() for path in paths.values())


def test_a_level_with_too_few_items_is_inconclusive_with_the_number_needed(request_: CheckRequest) -> None:
    summary, _ = check(request_)
    (cell,) = summary["cells"]
    assert summary["verdict"] == "INCONCLUSIVE"
    assert cell["items_needed"]["1"] == 189
    assert any("189" in reason for reason in summary["reasons"])


def test_the_evaluation_data_is_left_as_it_was(request_: CheckRequest, photos: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in photos.rglob("*")}
    check(replace(request_, items=None))
    assert {path: path.stat().st_mtime_ns for path in photos.rglob("*")} == before


def test_levels_come_from_responders_where_none_are_given(request_: CheckRequest) -> None:
    summary, _ = check(replace(request_, items=None))
    (card,) = summary["calibration"]
    assert card["engine"] == "em"
    assert card["responders"] > 1
    assert not card["circular"]
    table, _ = read_items(request_.out / "items.parquet")
    assert set(table["level"].to_pylist()) == {1, 2, 3, 4, 5}


def test_what_the_quantiser_saw_is_never_judged(request_: CheckRequest) -> None:
    summary, _ = check(replace(request_, environments=("int8-qdq-per-channel",)))
    roles = read_items(request_.out / "items.parquet")[0]["split"].to_pylist()
    assert roles.count("calibration") == 40
    assert summary["items"]["judged"] == 360
    stored = Workspace(request_.out).read_cell("digits-cnn-random-s0", "int8-qdq-per-channel")
    assert stored is not None
    assert len(stored[1]) == 360


def test_calibration_data_comes_from_the_train_split_and_is_not_withheld(
    request_: CheckRequest, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    for split, first in (("train", 400), ("test", 500)):
        for index in range(first, first + 40):
            path = other / split / str(load_digits().target[index]) / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((load_digits().images[index] * 255 / 16).astype(np.uint8)).save(path)
    asked = replace(
        request_, environments=("int8-qdq-per-tensor",), calibration_data=DataSource(source=str(other)), margin_pp=6.0
    )
    summary, _ = check(asked)
    assert summary["items"]["judged"] == 400
    assert summary["cells"][0]["status"] == "ok"


def test_calibration_data_that_is_judged_too_is_refused(request_: CheckRequest) -> None:
    overlapping = replace(request_, environments=("int8-qdq-per-tensor",), calibration_data=request_.data)
    with pytest.raises(DataError, match="400 items of --calibration-data are evaluation items too"):
        check(overlapping)


def test_a_model_without_contract_is_refused_and_then_given_one(request_: CheckRequest, tmp_path: Path) -> None:
    bare = tmp_path / "bare.onnx"
    model = onnx.load(request_.model)
    del model.metadata_props[:]
    onnx.save(model, bare)
    with pytest.raises(ContractError, match=r"carries no contract[\s\S]*--contract FILE"):
        check(replace(request_, model=bare))
    contract = tmp_path / "contract.toml"
    contract.write_text(contract_to_toml(read_contract(request_.model)), encoding="utf-8")
    summary, _ = check(replace(request_, model=bare, contract=contract, margin_pp=6.0))
    assert summary["verdict"] == "PASS"


def test_a_file_that_is_not_onnx_is_said(request_: CheckRequest, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.onnx"
    wrong.write_text("not a model", encoding="utf-8")
    with pytest.raises(ModelFileError, match=r"wrong\.onnx \(11 bytes\) is not an ONNX file"):
        check(replace(request_, model=wrong))


def test_a_contract_in_place_of_the_models_own_is_said_where_it_differs(request_: CheckRequest, tmp_path: Path) -> None:
    own = read_contract(request_.model)
    same, other = tmp_path / "same.toml", tmp_path / "other.toml"
    same.write_text(contract_to_toml(own))
    text = contract_to_toml(own)
    assert "mean = " in text
    line = next(line for line in text.splitlines() if line.startswith("mean = "))
    other.write_text(text.replace(line, "mean = [0.125]"))
    said = (
        "other.toml stands in for the contract inside digits-cnn-random-s0.onnx and says otherwise: preprocessing.mean."
    )
    summary, _ = check(replace(request_, contract=other))
    assert any(note.startswith(said) for note in summary["notes"])
    summary, _ = check(replace(request_, contract=same, out=tmp_path / "again"))
    assert not any("stands in for" in note for note in summary["notes"])


def test_a_contract_that_does_not_fit_the_model_names_both(request_: CheckRequest, tmp_path: Path) -> None:
    text = contract_to_toml(read_contract(request_.model)).replace("[12, 12]", "[9, 9]")
    contract = tmp_path / "contract.toml"
    contract.write_text(text, encoding="utf-8")
    with pytest.raises(ContractError, match=r"makes NCHW images of \(1, 9, 9\).*12"):
        check(replace(request_, contract=contract))


def test_an_unknown_environment_gets_the_nearest_names(request_: CheckRequest) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'int8-dynamic'"):
        check(replace(request_, environments=("int8-dynamik",)))


def test_an_unknown_environment_lists_those_of_the_models_domain_alone(request_: CheckRequest) -> None:
    with pytest.raises(UnknownNameError) as raised:
        check(replace(request_, environments=("int8-dynamik",)))
    text = str(raised.value)
    assert text.startswith("Unknown environment for vision models 'int8-dynamik'. Did you mean 'int8-dynamic'")
    assert "int8-qdq-per-channel" in text
    with pytest.raises(UnknownNameError) as raised:
        check(replace(request_, environments=("text-truncated-15",)))
    assert "text-truncated" not in str(raised.value).partition("Valid:")[2]


def test_an_unknown_environment_lists_all_where_no_model_tells_a_domain(request_: CheckRequest) -> None:
    with pytest.raises(UnknownNameError) as raised:
        check(replace(request_, environments=("text-truncated-15",), model=request_.out / "none.onnx"))
    assert str(raised.value).startswith("Unknown environment 'text-truncated-15'. Did you mean 'text-truncated-16'")


def test_a_missing_bundle_of_a_study_gets_the_nearest_of_those_there(request_: CheckRequest) -> None:
    with pytest.raises(ModelFileError) as raised:
        check(replace(request_, model=request_.model.with_name("digits-cnn-iid-s0.onnx")))
    text = str(raised.value)
    assert "digits-cnn-iid-s0.onnx does not exist" in text
    assert all(f"digits-cnn-{name}-s{seed}.onnx" in text for name in ("random", "easy-only") for seed in range(3))
    assert "(iid, the controls, other widths, transfers) is not exported" in text


def test_a_missing_model_elsewhere_is_said_without_a_list(request_: CheckRequest, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"none\.onnx does not exist; an ONNX file is expected\. Give the path"):
        check(replace(request_, model=tmp_path / "none.onnx"))


def test_unreadable_images_are_counted_and_not_dropped(request_: CheckRequest, photos: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(photos, data)
    broken = sorted(data.rglob("*.png"))[7]
    broken.write_bytes(b"no image")
    summary, _ = check(replace(request_, data=DataSource(source=str(data)), margin_pp=6.0))
    assert summary["items"]["unreadable"] == 1
    assert summary["verdict"] == "ERROR"  # 1 of 400 is above 0.1%
    stored = Workspace(request_.out).read_cell("digits-cnn-random-s0", "reference")
    assert stored is not None
    assert list(stored[1].item_id[stored[1].status == "unreadable"]) == [broken.relative_to(data).as_posix()]
    assert broken.name in stored[0].reason


def test_labels_outside_the_models_classes_are_named(request_: CheckRequest, photos: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(photos, data)
    (data / "3").rename(data / "three")
    with pytest.raises(DataError, match="three"):
        check(replace(request_, data=DataSource(source=str(data))))


def test_a_class_folder_without_images_is_named(request_: CheckRequest, photos: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(photos, data)
    shutil.rmtree(data / "3")
    (data / "3").mkdir()
    with pytest.raises(DataError, match=r"3.*no image"):
        check(replace(request_, data=DataSource(source=str(data))))


def test_training_items_among_the_evaluated_ones_are_said_at_the_top(
    request_: CheckRequest, levels: Path, tmp_path: Path
) -> None:
    table, cards = read_items(levels)
    split = ["train" if row < 30 else "test" for row in range(table.num_rows)]
    table = table.set_column(table.column_names.index("split"), "split", [split])
    write_items(tmp_path / "split.parquet", table, cards)
    summary, _ = check(replace(request_, items=tmp_path / "split.parquet"))
    assert any(note.startswith("30 of the 400 evaluated items are training items") for note in summary["notes"])


def test_items_that_the_levels_file_does_not_know_are_named(
    request_: CheckRequest, photos: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(photos, data)
    first = next(iter(sorted((data / "0").iterdir())))
    first.rename(first.with_name("new.png"))
    with pytest.raises(DataError, match=r"1 of the 400 evaluated ones .*'0/new\.png' first"):
        check(replace(request_, data=DataSource(source=str(data))))


def test_a_second_check_runs_nothing(request_: CheckRequest) -> None:
    check(request_)
    stamps = {path: path.stat().st_mtime_ns for path in (request_.out / "records").iterdir()}
    check(request_)
    assert {path: path.stat().st_mtime_ns for path in (request_.out / "records").iterdir()} == stamps


def test_the_summary_is_strict_json(request_: CheckRequest) -> None:
    check(request_)
    text = (request_.out / "summary.json").read_text(encoding="utf-8")
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def test_one_unreadable_image_in_a_thousand_is_counted_and_decides_nothing(
    request_: CheckRequest, tmp_path: Path
) -> None:
    """Levels come from responders here, so the broken item has none."""
    digits = load_digits()
    data = tmp_path / "data"
    for index in range(1797):
        path = data / str(digits.target[index]) / f"{index:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[index] * 255 / 16).astype(np.uint8)).save(path)
    (data / str(digits.target[9]) / "0009.png").write_bytes(b"broken")
    summary, _ = check(replace(request_, data=DataSource(source=str(data)), items=None))
    assert summary["items"]["unreadable"] == 1
    assert summary["verdict"] == "PASS"


def test_a_levels_file_of_another_data_set_is_refused(request_: CheckRequest, photos: Path, tmp_path: Path) -> None:
    """The ids are alike, the classes are not."""
    import pyarrow as pa

    from gapshift.records import ITEM_SCHEMA, write_items

    ids = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))
    columns = {"id": ids, "level": [1] * len(ids), "label": [place % 10 for place in range(len(ids))]}
    table = pa.table({n: columns.get(n, [None] * len(ids)) for n in ITEM_SCHEMA.names}, schema=ITEM_SCHEMA)
    write_items(tmp_path / "items.parquet", table, [])
    with pytest.raises(DataError, match="rates another data set"):
        check(replace(request_, items=tmp_path / "items.parquet"))


def test_a_levels_file_that_rates_an_item_twice_is_refused(
    request_: CheckRequest, levels: Path, tmp_path: Path
) -> None:
    import pyarrow as pa

    from gapshift.records import write_items

    table, _ = read_items(levels)
    write_items(tmp_path / "items.parquet", pa.concat_tables([table, table.slice(0, 1)]), [])
    with pytest.raises(DataError, match=r"rates '.*png' more than once"):
        check(replace(request_, items=tmp_path / "items.parquet"))


@pytest.mark.parametrize("margin", [0.0, 100.0, -1.0])
def test_a_margin_out_of_range_is_said(request_: CheckRequest, margin: float) -> None:
    with pytest.raises(SettingsError, match="lies between 0 and 100"):
        replace(request_, margin_pp=margin)


def test_a_study_folder_is_not_overwritten(request_: CheckRequest, tiny_study: Path, tmp_path: Path) -> None:
    """And that is said before the data are opened and responders trained."""
    nowhere = DataSource(source=str(tmp_path / "nowhere"))
    with pytest.raises(WorkspaceError, match="holds a run of `gapshift study`"):
        check(replace(request_, out=tiny_study, data=nowhere))


def test_two_processes_do_not_share_a_run_folder(request_: CheckRequest) -> None:
    with Workspace(request_.out).lock(), pytest.raises(WorkspaceError, match="Another gapshift process works on"):
        check(request_)


def test_records_of_another_model_are_not_judged(request_: CheckRequest) -> None:
    """As after a kill between writing the plan and running its cells."""
    from gapshift.flows.judging import report
    from gapshift.flows.reporting import Silent

    check(replace(request_, margin_pp=6.0))
    workspace = Workspace(request_.out)
    plan = workspace.read_plan()
    (bundle,) = plan.bundles
    other = bundle.model_copy(update={"sha256": "0" * 64})
    workspace.write_plan(plan.model_copy(update={"bundles": (other,)}))
    summary, _ = report(workspace, Silent())
    assert summary["verdict"] == "ERROR"


def test_a_model_with_a_strange_file_name_gets_a_plain_bundle_name(request_: CheckRequest, tmp_path: Path) -> None:
    from gapshift.flows.check import user_bundle

    odd = tmp_path / ".mod\u00e8le \u96ea v2.onnx"
    shutil.copy(request_.model, odd)
    assert user_bundle(odd, None).name == "mod-le-v2"
