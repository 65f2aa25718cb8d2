"""H&M Personalized Fashion Recommendations (Kaggle, 2022): purchases, articles and customers as CSV files.

https://www.kaggle.com/competitions/h-and-m-personalized-fashion-recommendations/data
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from tff_rec.data import cleaning
from tff_rec.data.csv_file import CSV_ENDINGS, TextFile, list_files, on_disk, read_table, with_header
from tff_rec.data.schema import CleaningStep, InteractionData, empty_genome, empty_tags
from tff_rec.errors import InputError

ARTICLE_COLUMNS = (
    "product_code",
    "prod_name",
    "product_type_name",
    "product_group_name",
    "graphical_appearance_name",
    "colour_group_name",
    "perceived_colour_value_name",
    "perceived_colour_master_name",
    "department_name",
    "index_name",
    "index_group_name",
    "section_name",
    "garment_group_name",
)
CUSTOMER_COLUMNS = ("age", "club_member_status", "fashion_news_frequency")
_KEY = ("customer_id", "article_id")


def read_hm(path: Path, name: str = "hm") -> InteractionData:
    """Reads H&M purchases; of several purchases of an article by a customer the first row stays.

    Args:
        path: A folder or zip with `transactions*.csv[.gz]` and, if they are there, `articles*` and `customers*`; or the
            transactions file itself (or `transactions*.csv.zip`), beside which the other two are looked for.
        name: Name of the data set.

    Returns:
        Interactions with rating 1 and the day (UTC midnight) as timestamp. Article ids are strings as in the file
        (`0108775015`). Items have the columns of `ARTICLE_COLUMNS` that the file has, or only `product_code` (the id
        without its last three digits) if there are no articles; users, of those in the data, `CUSTOMER_COLUMNS`.

    Raises:
        InputError: A file is missing or damaged, lacks a column, or holds a wrong value.
    """
    transactions, files = _find(path)
    interactions, steps = _interactions(transactions)
    articles = _largest(files, "articles")
    items, item_steps = _articles(articles, interactions) if articles else (_bare_items(interactions), [])
    customers = _largest(files, "customers")
    users = pd.DataFrame({"user_id": interactions["user_id"].unique()})
    users, user_steps = _customers(customers, users) if customers else (users, [])
    cleaned = (CleaningStep(f"transactions file read: {transactions.name}", 1), *steps, *item_steps, *user_steps)
    return InteractionData(name, interactions, items, empty_tags(), empty_genome(), users, cleaned)


def _find(path: Path) -> tuple[TextFile, Mapping[str, TextFile]]:
    """The transactions file, and all files where it lies."""
    if path.is_file() and path.name.endswith(CSV_ENDINGS):
        return on_disk(path), list_files(path.parent)
    files = list_files(path)
    published = [files[name] for name in ("transactions_train.csv", "transactions_train.csv.gz") if name in files]
    transactions = published[0] if published else _largest(files, "transactions")
    if transactions is None:
        raise InputError(f"{path} holds no transactions*.csv or .csv.gz; give the folder of the H&M files from Kaggle.")
    if path.is_file() and path.name.endswith(".csv.zip"):
        files = {**list_files(path.parent), **files}
    return transactions, files


def _largest(files: Mapping[str, TextFile], start: str) -> TextFile | None:
    """The largest CSV file whose name begins with `start`."""
    found = [file for name, file in files.items() if name.startswith(start) and name.endswith(CSV_ENDINGS)]
    return max(found, key=lambda file: (file.size, file.name), default=None)


def _interactions(file: TextFile) -> tuple[pd.DataFrame, list[CleaningStep]]:
    file = with_header(file, ("t_dat", *_KEY))
    columns = ["t_dat", *_KEY]
    table, malformed = read_table(file)
    table, missing = cleaning.drop_missing(table[columns], file, columns)
    days = pd.Series(table["t_dat"].unique(), dtype=object)
    dates = pd.to_datetime(days, format="%Y-%m-%d", errors="coerce")
    _check_dates(table, file, set(days[dates.isna() | (dates < pd.Timestamp(0))]))
    seconds = dates.to_numpy().astype("datetime64[s]").astype(np.int64)
    table, repeats = cleaning.drop_repeats(table, file, _KEY)
    table = table.assign(timestamp=table["t_dat"].map(dict(zip(days, seconds, strict=True))), rating=1.0)
    return cleaning.as_interactions(table.rename(columns={"customer_id": "user_id", "article_id": "item_id"})), [
        *malformed,
        *missing,
        *repeats,
    ]


def _check_dates(table: pd.DataFrame, file: TextFile, bad: set[str]) -> None:
    if bad:
        row = table.index[table["t_dat"].isin(bad)][0]
        where = cleaning.place(file, row)
        raise InputError(f"{where}: t_dat '{table.loc[row, 't_dat']}' is not a date like 2020-09-22; correct the row.")


def _articles(file: TextFile, interactions: pd.DataFrame) -> tuple[pd.DataFrame, list[CleaningStep]]:
    """Items of the articles file, then bought articles that it lacks."""
    file = with_header(file, ("article_id",), ARTICLE_COLUMNS)
    table, malformed = read_table(file)
    table, missing = cleaning.drop_missing(table, file, ("article_id",))
    table, repeats = cleaning.drop_repeats(table, file, ("article_id",))
    columns = [column for column in ARTICLE_COLUMNS if column in file.columns]
    items = table[["article_id", *columns]].fillna("").rename(columns={"article_id": "item_id"})
    items.insert(1, "title", items["prod_name"] if "prod_name" in columns else items["item_id"])
    bare = _bare_items(interactions)
    bare = bare[~bare["item_id"].isin(items["item_id"])]
    steps = [*malformed, *missing, *repeats]
    if not bare.empty:
        examples = tuple(bare["item_id"][: cleaning.NUM_EXAMPLES])
        steps.append(
            CleaningStep(f"bought articles missing from {file.name}: the id is the title", len(bare), examples)
        )
    known = [column for column in bare.columns if column in items.columns]
    return pd.concat([items, bare[known]], ignore_index=True).fillna(""), steps


def _bare_items(interactions: pd.DataFrame) -> pd.DataFrame:
    """What an article's id alone tells: the product is all but its last three digits."""
    ids = pd.Series(interactions["item_id"].unique(), dtype=object)
    return pd.DataFrame({"item_id": ids, "title": ids, "product_code": ids.str[:-3]})


def _customers(file: TextFile, users: pd.DataFrame) -> tuple[pd.DataFrame, list[CleaningStep]]:
    """Every user of the data, with what the customers file tells of those it has."""
    file = with_header(file, ("customer_id",), CUSTOMER_COLUMNS)
    table, malformed = read_table(file)
    table = table[table["customer_id"].isin(users["user_id"])].drop_duplicates("customer_id")
    columns = [column for column in CUSTOMER_COLUMNS if column in file.columns]
    table = table[["customer_id", *columns]].rename(columns={"customer_id": "user_id"})
    users = users.merge(table, on="user_id", how="left").fillna("")
    if "age" in columns:
        users["age"] = users["age"].str.removesuffix(".0")
    return users, malformed
