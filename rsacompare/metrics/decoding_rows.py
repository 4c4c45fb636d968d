"""Which presentations decoding trains on, and which items it predicts."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import xarray as xr

from rsacompare.errors import DataError, LabelError, ProtocolError
from rsacompare.schema import labels

FEWEST_TRAINING_STIMULI = 3


@dataclass(frozen=True)
class Rows:
    """The presentations of one subject and region, sorted out.

    Attributes
    ----------
    values : (presentation, voxel)
    stimulus_id : (presentation,) str
    item : (presentation,) str
        What a predicted presentation is scored as: its stimulus, or its category.
    train, scored : (presentation,) bool
        Both all True where predictions are to be cross-validated.
    cross_validated : bool
    members : {category: stimuli that were shown of it}
        Empty where items are stimuli.
    shown : (stimulus,) str
        Every stimulus that was shown, in whatever split.
    where : str
    block : (presentation,) str, optional
        Where presentations follow each other in time.
    """

    values: np.ndarray
    stimulus_id: np.ndarray
    item: np.ndarray
    train: np.ndarray
    scored: np.ndarray
    cross_validated: bool
    members: dict[str, np.ndarray] = field(default_factory=dict)
    shown: np.ndarray = field(default_factory=lambda: np.array([], dtype=str))
    where: str = "responses"
    block: np.ndarray | None = None


def sort_out(response: xr.DataArray, items: str) -> Rows:
    """The rows to train on and to score.

    Parameters
    ----------
    response : DataArray (presentation, neuroid)
    items : {"stimuli", "categories", "imagery"}

    Raises
    ------
    DataError
        No or too few training stimuli, nothing to score, a stimulus in both, NaN, no category.
    ProtocolError
        Imagery where there is none.
    """
    where = "responses" + "".join(
        f" {word} {response.attrs[key]}"
        for key, word in (("subject", "of"), ("roi", "in"))
        if response.attrs.get(key)
    )
    values = response.transpose("presentation", "neuroid").values
    ids = response["stimulus_id"].values.astype(str)
    split = (
        response["split"].values.astype(str)
        if "split" in response.coords
        else np.full(len(ids), "")
    )
    category = (
        response["category"].values.astype(str)
        if "category" in response.coords
        else np.full(len(ids), "")
    )
    block = None
    if "time_block" in response.coords:
        block = response["time_block"].values.astype(str)
    imagined = split == "imagery"
    if items != "imagery":
        values, ids, split, category = (a[~imagined] for a in (values, ids, split, category))
        block = None if block is None else block[~imagined]
    elif not imagined.any():
        raise ProtocolError(
            f"{where}: items='imagery' needs presentations marked split 'imagery', there are none; "
            "mark them, or leave items at 'stimuli' or 'categories'"
        )
    labels.require_finite(values, where)
    item, members = ids, {}
    if items != "stimuli":
        seen = split != "imagery"
        item = np.where(category == "", ids, category) if items == "imagery" else category
        members = {
            str(name): np.unique(ids[seen & (category == name)])
            for name in np.unique(category[seen])
            if name
        }
    shown = np.unique(ids)
    if (split == "").all():
        every = np.ones(len(ids), dtype=bool)
        _require_categories(item, ids, every, where)
        n = len(np.unique(item))
        if n < 2 * FEWEST_TRAINING_STIMULI:
            what = "stimuli" if items == "stimuli" else "categories"
            raise DataError(
                f"{where}: {n} {what} and no split; to train and test on different "
                f"ones decoding needs at least {2 * FEWEST_TRAINING_STIMULI} {what}"
            )
        return Rows(values, ids, item, every, every, True, members, shown, where, block)
    train = split == "train"
    if items == "imagery" and not train.any():
        train = split == ""
    scored = split == ("imagery" if items == "imagery" else "test")
    if not scored.any():
        raise DataError(f"{where}: no presentation is marked 'test'; decoding scores those")
    n_train = len(np.unique(ids[train]))
    if n_train < FEWEST_TRAINING_STIMULI:
        raise DataError(
            f"{where}: {n_train} stimuli are marked 'train', decoding needs at least "
            f"{FEWEST_TRAINING_STIMULI}; mark more, or leave out the split to cross-validate"
        )
    both = np.intersect1d(ids[train], ids[scored]) if items != "imagery" else np.array([])
    if both.size:
        raise DataError(
            f"{where}: {both.size} stimuli are in both training and test "
            f"({labels.listed(both.tolist())}): the score would not be one of new stimuli; "
            "give each stimulus one split"
        )
    _require_categories(item, ids, scored, where)
    return Rows(values, ids, item, train, scored, False, members, shown, where, block)


def item_features(
    items: np.ndarray,
    members: dict[str, np.ndarray],
    stimulus_id: np.ndarray,
    values: np.ndarray,
    where: str,
    values_where: str,
) -> np.ndarray:
    """The true activation of each item: (item, unit).

    Parameters
    ----------
    items : (item,) str
    members : {category: its stimuli}
    stimulus_id, values : (stimulus,) str, (stimulus, unit)
        The network's.

    Returns
    -------
    (item, unit) float64
        The network's row of that name, else the mean over the category's stimuli that were shown.

    Raises
    ------
    LabelError
        The network knows neither the item nor the stimuli of such a category.
    """
    place = {name: row for row, name in enumerate(stimulus_id.tolist())}
    averaged = [i for i in items.tolist() if i not in place and len(members.get(i, ()))]
    named = np.array([i for i in items.tolist() if i not in averaged], dtype=str)
    out = np.empty((len(items), values.shape[1]))
    if named.size:
        if members and (lacking := [i for i in named.tolist() if i not in place]):
            raise LabelError(
                f"{len(lacking)} categories of {where} ({labels.listed(lacking)}) are no stimuli "
                f"of {values_where}, and no stimulus of theirs was shown: their average "
                "activation is not known; give the network a row of each name"
            )
        out[np.isin(items, named)] = values[
            labels.index_of(named, stimulus_id, where, values_where)
        ]
    for name in averaged:
        rows = labels.index_of(members[name], stimulus_id, where, values_where)
        out[items == name] = np.asarray(values[rows], dtype=np.float64).mean(axis=0)
    return out


def _require_categories(item: np.ndarray, ids: np.ndarray, scored: np.ndarray, where: str) -> None:
    lacking = np.unique(ids[scored & (item == "")])
    if lacking.size:
        raise DataError(
            f"{where}: {lacking.size} scored stimuli have no category "
            f"({labels.listed(lacking.tolist())}); give the presentations a coordinate 'category', "
            "or leave items at 'stimuli'"
        )
