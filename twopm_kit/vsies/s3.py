"""Opens Amazon's S3, or what speaks like it, through Arrow, with settings from the environment."""

import os
from typing import Any
from urllib.parse import urlsplit

from twopm_kit.errors import StoreError

__all__ = ["bucket_path", "open_s3"]


def bucket_path(url: str) -> str:
    """Return bucket and path of ``s3://bucket/path``.

    Raises
    ------
    StoreError
        If there is anything else in the URL: credentials do not belong there.
    """
    rest = url.removeprefix("s3://")
    if not rest.partition("/")[0] or set("@:?#") & set(rest):
        raise StoreError(
            "an S3 address is s3://bucket/path and nothing else",
            hint="set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_ENDPOINT_URL in the environment",
        )
    return rest


def open_s3() -> Any:
    """Return an fsspec file system over S3.

    Credentials, region and endpoint are taken from ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``,
    ``AWS_REGION``, ``AWS_ENDPOINT_URL`` and their kin. Servers other than Amazon's may need
    ``AWS_REQUEST_CHECKSUM_CALCULATION=when_required``.

    Raises
    ------
    StoreError
        If Arrow refuses the settings; their values are not in the message.
    """
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow.fs import S3FileSystem

    # small files go out whole, in one request, at once
    settings: dict[str, Any] = {"allow_delayed_open": True, "background_writes": False}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        parts = urlsplit(endpoint)
        settings |= {"scheme": parts.scheme, "endpoint_override": parts.netloc + parts.path.rstrip("/")}
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region or endpoint:  # without either, Arrow asks Amazon where the bucket lies
        settings["region"] = region or "us-east-1"
    try:
        return ArrowFSWrapper(S3FileSystem(**settings), skip_instance_cache=True)
    except Exception as cause:  # noqa: BLE001  the cause can quote credentials
        raise StoreError(
            f"S3 refused its settings: {type(cause).__name__}",
            hint="check the AWS_… variables of the environment, and whether the service runs",
        ) from None
