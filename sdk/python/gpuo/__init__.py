"""GPUs for as long as a block of code runs, from a gpu-orchestrator.

    from gpuo import gpus

    with gpus(2, memory="20G", max_duration="8h") as lease:
        train(lease.devices)
"""

from ._client import Client, Event
from ._errors import ApiError, GpuoError, LeaseLost, NotGranted, Unreachable
from ._lease import Device, Lease, Request, gpus, with_gpus
from .webhooks import WebhookError, verify_webhook

__version__ = "1.0.0"

__all__ = [
    "ApiError",
    "Client",
    "Device",
    "Event",
    "GpuoError",
    "Lease",
    "LeaseLost",
    "NotGranted",
    "Request",
    "Unreachable",
    "WebhookError",
    "gpus",
    "verify_webhook",
    "with_gpus",
]
