"""From a dropped file to recorded requests, or to rejected/ with an explanation."""

from batchbox.intake.cancelling import Canceller
from batchbox.intake.parsing import Parsing
from batchbox.intake.recording import Recorder, RecorderSettings
from batchbox.intake.rejecting import Rejecter
from batchbox.intake.settling_anew import SettlingAnew
from batchbox.intake.stage import Intake, IntakeSettings

__all__ = [
    "Canceller",
    "Intake",
    "IntakeSettings",
    "Parsing",
    "Recorder",
    "RecorderSettings",
    "Rejecter",
    "SettlingAnew",
]
