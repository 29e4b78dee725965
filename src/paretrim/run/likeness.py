"""How like its teacher a network is, once both are deployed: the figures of ``paretrim inspect --compare``, for a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from paretrim.errors import InvalidRecipe, located
from paretrim.network.class_maps import has_map, map_at
from paretrim.results.comparison import compare
from paretrim.results.outcome import TeacherLikeness
from paretrim.run.changes import TestLogits
from paretrim.run.delivery import Entry, Experiment, ship
from paretrim.run.inside import map_similarity_of_files
from paretrim.run.judge import DeployedFiles
from paretrim.run.pipeline import first_candidate
from paretrim.run.start import TestSet
from paretrim.run.teachers import Tutor
from paretrim.settings import settings
from paretrim.train.task import CLASSIFICATION


@settings()
class TeacherComparison:
    """With which of a study's teachers its networks are compared, and where Grad-CAM looks: by default at the last maps.

    Attributes:
        teacher: its name in ``[[base.teachers]]``.
        at: path of a module of the network, for Grad-CAM.
        teacher_at: path of a module of the teacher; the same one, if left out.
    """

    teacher: str
    at: str = ""
    teacher_at: str = ""

    @property
    def places(self) -> tuple[str, str]:
        """Where Grad-CAM looks, in teacher and network."""
        return self.teacher_at or self.at, self.at


@dataclass(frozen=True, eq=False)
class ComparedTeacher:
    """A trained teacher with its deployed files, and its logits for the test images."""

    asked: TeacherComparison
    files: DeployedFiles
    logits: TestLogits
    test: TestSet

    def likeness(self, student: DeployedFiles) -> TeacherLikeness:
        """How like it the network of these files is."""
        found = compare(self.logits.of(self.files), self.logits.of(student), self.test.labels)
        images = self.test.images
        maps = map_similarity_of_files((self.files.trim, student.trim), (images, images), self.test.labels, at=self.asked.places)
        return TeacherLikeness(
            teacher=self.asked.teacher,
            kl=max(0.0, found.kl),
            agreement=found.agreement,
            teacher_value=found.accuracy[0],
            teacher_calibration_error=found.calibration_error[0],
            calibration_error=found.calibration_error[1],
            grad_cam=fmean(maps),
            grad_cam_images=len(maps),
            grad_cam_at=self.asked.places,
        )


def check_comparison(asked: TeacherComparison, experiment: Experiment) -> None:
    """Refuse a comparison that cannot be made, before anything trains.

    Raises:
        InvalidRecipe: the task has no classes, or a network has no such module or no map for Grad-CAM.
    """
    start = experiment.start
    if start.task != CLASSIFICATION:
        raise InvalidRecipe(f"compare needs classes, and the task is {start.task.name}; leave it out")
    tutor = _named(asked, experiment)
    begun = start if tutor.start is None else tutor.start
    for name, network, path in zip(
        ("compare.teacher_at", "compare.at"), (begun.network, start.network), asked.places, strict=True
    ):
        if path:
            with located(name):
                map_at(network.structure, path)
        elif not has_map(network.structure):
            raise InvalidRecipe(
                "compare looks at maps of height and width with Grad-CAM, and a network has none; leave it out, and "
                "compare files with paretrim inspect --compare"
            )


def compared_teacher(asked: TeacherComparison, ready: Experiment, test: TestSet, folder: Path) -> ComparedTeacher:
    """The teacher of an experiment whose teachers are trained, deployed below ``folder``.

    Raises:
        ParetrimError: it cannot be deployed.
    """
    tutor = _named(asked, ready)
    start = ready.start if tutor.start is None else replace(tutor.start, network=tutor.network or tutor.start.network)
    entry = Entry(f"teacher {asked.teacher}", (), first_candidate(start))
    files = ship(entry, Experiment(start), folder / "teachers")
    return ComparedTeacher(asked, files, TestLogits(test, files), test)


def _named(asked: TeacherComparison, experiment: Experiment) -> Tutor:
    """The teacher with the name."""
    tutors = experiment.teacher
    assert isinstance(tutors, Sequence), "the study names one of several teachers"
    return next(tutor for tutor in tutors if tutor.spec.name == asked.teacher)
