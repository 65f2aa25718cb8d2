"""Names of the data sources and of the variable that says where they are. Imports nothing, so `--help` is quick."""

DATA_VARIABLE = "TFF_REC_DATA"
MOVIELENS = ("ml-100k", "ml-1m", "ml-10m", "ml-20m", "ml-25m", "ml-32m", "ml-latest-small", "ml-latest")
SOURCES = ("synthetic", *MOVIELENS, "hm", "csv")
