"""From a dropped file to recorded requests, or to rejected/ with an explanation."""

from batchbox.intake.recording import Recorder, RecorderSettings
from batchbox.intake.rejecting import Rejecter
from batchbox.intake.stage import Intake, IntakeSettings

__all__ = ["Intake", "IntakeSettings", "Recorder", "RecorderSettings", "Rejecter"]
