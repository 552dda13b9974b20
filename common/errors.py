"""Every error of the pipeline, grouped by what happens to the work.

    PipelineError
    ├── HaltError                 nothing goes on before a person acts
    │   ├── SettingsError         settings are missing or wrong (all faults in one message)
    │   ├── StorageRefusedError   the storage does not take our requests: wrong endpoint
    │   ├── CredentialError       a key, secret or role is refused by a service
    │   └── QueryRefusedError     the workspace takes no query of ours: network, id or table
    ├── TryLaterError             the same work will succeed later
    │   ├── ThrottledError        the service asked to slow down
    │   ├── UnavailableError      no usable answer: connection, timeout, 5xx, storage trouble
    │   ├── PartialAnswerError    the workspace answered a query in part
    │   ├── OutOfTimeError        the function must end before the platform ends it
    │   ├── BacklogError          the queue is too long for more
    │   ├── LeaseHeldError        another sync run is under way
    │   ├── LaterVersionError     the message is of a later release
    │   └── ConflictError         another writer changed the row first
    │       └── LeaseLostError    another instance goes on with the sync run
    ├── PoisonError               this message can never succeed as it is
    │   └── UndecodableError      the envelope cannot be read
    ├── GapError                  Lumen no longer knows a query that was not drained
    ├── QueryFailedError          Lumen could not answer the query
    └── ContractDriftError        a service answered in a way its contract does not name
        └── AnswerTooLargeError   an answer is larger than any that is read

Foreign errors are translated at one border per dependency (`ledger.tables`, `queues`,
`identity`, `workspace`, `producer.lumen`, `consumer.sentinel`). A message says what, which id and
what to do next; never a secret, a token or an indicator.
"""


class PipelineError(Exception):
    """Base of everything the pipeline raises on purpose."""


class HaltError(PipelineError):
    """Nothing goes on before a person acts."""


class SettingsError(HaltError):
    """One or more settings are missing or wrong; the message lists every fault."""

    def __init__(self, faults: list[str]) -> None:
        self.faults = tuple(faults)
        plural = "setting needs" if len(faults) == 1 else "settings need"
        super().__init__("\n".join([f"{len(faults)} {plural} attention:", *faults]))


class StorageRefusedError(HaltError):
    """The storage account refuses our requests: the settings name a wrong endpoint."""


class CredentialError(HaltError):
    """A service refused our credentials."""


class QueryRefusedError(HaltError):
    """The workspace refuses our queries: wrong network, id or table."""


class TryLaterError(PipelineError):
    """The same work will succeed later."""


class ThrottledError(TryLaterError):
    """The service asked to slow down; `retry_after` is in seconds, if it said how long."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnavailableError(TryLaterError):
    """No usable answer came: connection, timeout, server error."""


class PartialAnswerError(TryLaterError):
    """The workspace answered only a part of a query, so missing rows may exist."""


class OutOfTimeError(TryLaterError):
    """The time budget of this invocation is used up."""


class BacklogError(TryLaterError):
    """The queue would take too long to drain: no new query is started."""


class LeaseHeldError(TryLaterError):
    """Another sync run holds the run lease."""


class LaterVersionError(TryLaterError):
    """A later release wrote the message: an update is under way, or was rolled back."""


class ConflictError(TryLaterError):
    """Another writer changed the row since it was read."""


class LeaseLostError(ConflictError):
    """Another instance took over the run lease or the run: this one must not write it any more."""


class PoisonError(PipelineError):
    """This message can never succeed as it is."""


class UndecodableError(PoisonError):
    """The envelope cannot be read; the message says why."""


class GapError(PipelineError):
    """Lumen no longer knows a query that was not drained: indicators may be missing."""


class QueryFailedError(PipelineError):
    """Lumen reports that it could not answer the query."""


class ContractDriftError(PipelineError):
    """A service's answer is not in its contract."""


class AnswerTooLargeError(ContractDriftError):
    """A service's answer exceeds the size limit and was not read to its end."""
