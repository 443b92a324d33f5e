"""The body model that params.yaml names, read for a stage: what is wrong with its file is said to the user."""

from __future__ import annotations

from model.body.body_files import BodyFileError
from model.body.body_model import BodyModel, load_body_model
from model.body.safe_pickle import UnsafePickleError
from tasks.errors import InputError
from tasks.settings import BodySettings


def read_body(settings: BodySettings, *, with_uv: bool = False, num_betas: int = 10) -> BodyModel:
    """The body model of these settings.

    Args:
        with_uv: whether its UV layout is needed too, as it is from the surface on.
        num_betas: shape coefficients to keep of a user's model.

    Raises:
        InputError: its file cannot be read, or has no UV layout though one is needed.
    """
    try:
        body = load_body_model(settings.model, uv_path=settings.uv, num_betas=num_betas)
        if with_uv:
            body.require_uv()
    except (BodyFileError, UnsafePickleError) as error:
        raise InputError(str(error)) from error
    return body
