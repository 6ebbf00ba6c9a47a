"""The interface between a run and what does its jobs: jobs in, outcomes out.

A worker knows neither what is already done nor where results are written
(`vidground.archive.run`).
"""

from collections.abc import Callable, Generator, Iterator

from vidground.archive.outputs import Job
from vidground.outcomes import Outcome
from vidground.progress import OnProgress
from vidground.results.documents import Result

Outcomes = Generator[Outcome[Job, Result], None, None]

Worker = Callable[[Iterator[Job], OnProgress], Outcomes]
"""Does jobs and yields each outcome as soon as it is known, in any order.

Every job taken from the iterator is locked against other runs until its outcome is yielded, so a
worker takes only as many as it can start soon, and takes them in the thread that iterates over the
outcomes. `Outcome.item` is the very job object that was taken. Errors of one job are yielded;
errors that are raised end the run. Closing the generator abandons unfinished jobs.
"""
