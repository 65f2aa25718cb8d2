"""What MovieLens 100K and 1M say of their users, as yes or no: what an attack may infer, and no model is told."""

import numpy as np
import pandas as pd

from tff_rec.data.schema import InteractionData

OLDER = 35


def user_attributes(data: InteractionData) -> dict[str, np.ndarray]:
    """Attributes of the record's users, in their order.

    Returns:
        `gender`, bool [users], whether F; `age`, bool [users], whether 35 or more, of the columns `gender` (F or M) and
        `age` (years, or the first of a bracket). Empty where the data has neither.
    """
    if not {"gender", "age"} <= set(data.users.columns):
        return {}
    years = pd.to_numeric(data.users["age"], errors="coerce").to_numpy(dtype=float)
    return {"gender": (data.users["gender"] == "F").to_numpy(), "age": years >= OLDER}
