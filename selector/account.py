"""Whether there is a Weights & Biases account; found out before anything is written, never by a question."""

from selector.errors import InvalidInput


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
