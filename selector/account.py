"""Weights & Biases before a run starts: its import, and whether there is an account, never found out by a question."""

import os

from selector.errors import InvalidInput


def import_wandb() -> None:
    """Import what a run needs of W&B. Worth doing before torch and Lightning are imported.

    For every class that W&B makes while it is imported, pydantic looks through all modules that are there already, and
    torch and Lightning bring thousands.
    """
    # W&B reports on itself to its makers, offline as well. Nothing is sent that was not asked for.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb.apis.public  # noqa: F401 - a run imports it when it starts


def check_account(key: str, given: object) -> None:
    """Refuse to go on where W&B would ask for an API key, or fail.

    Nothing is sent: the key is looked for where W&B looks (WANDB_API_KEY, the netrc file of ``wandb login``), and its
    form is checked.

    Args:
        key: the configuration key or option that asks for W&B.
        given: its value.

    Raises:
        InvalidInput: when there is no API key, or one of an impossible form.
    """
    import wandb
    from wandb.errors import AuthenticationError
    from wandb.sdk.lib import wbauth

    host = str(wandb.setup().settings.base_url)
    try:
        found = wbauth.authenticate_session(host=host, source="selector", prompt=False, update_session=False)
    except AuthenticationError as error:
        raise InvalidInput(key, given, f"needs a W&B API key; {' '.join(str(error).split())}") from None
    if found is None:
        raise InvalidInput(key, given, f"needs a W&B API key for {host}: run `wandb login`, or set WANDB_API_KEY")
