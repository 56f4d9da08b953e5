"""The opened video LLM of a bundle: one clip at a time, in memory whose size is checked before it is allocated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing

from edge_sdk.bundle import Bundle
from edge_sdk.bundle.manifest_language import Language, shared_out
from edge_sdk.engine.tensorrt_library import PACKAGES, runtime_dialects
from edge_sdk.errors import BundleError, ConfigError, UnknownNameError
from edge_sdk.reasoning.cache.calls import CallShape
from edge_sdk.reasoning.cache.prefix import Prefix
from edge_sdk.reasoning.clip import Clip, Speaking, answer_room
from edge_sdk.reasoning.embedding import EmbeddingTable
from edge_sdk.reasoning.fitting import Fit, Need, fit
from edge_sdk.reasoning.forms import prepare
from edge_sdk.reasoning.prompt import Prompt, PromptFrame
from edge_sdk.reasoning.text import Ids, Tokenizer
from edge_sdk.reasoning.tuned import TunedModel, lora_feeds, read_questions
from edge_sdk.registry import open_runtime
from edge_sdk.runtime import Array, Session, SessionOptions
from edge_sdk.tasks import TASK_IDS, find_task
from edge_sdk.types import Dialect

# The latest time in clips of minutes: its stamp before a frame takes the most tokens.
_LATE_S = 999.9

ANSWER_TOKENS = 128
"""Maximum tokens of one answer; the longest in CrashChat's validation set, on prevention, has 93."""


class Reasoner:
    """The language model of a bundle with all its adapters, in one runtime. A context manager."""

    def __init__(
        self,
        bundle: Bundle,
        runtime: str = "ort",
        options: SessionOptions | None = None,
        *,
        profile: str | None = None,
        max_frames: int | None = None,
        max_memory_mb: float | None = None,
        dialect: Dialect | None = None,
        shape: CallShape | None = None,
        max_tokens: int | Mapping[str, int] = ANSWER_TOKENS,
    ) -> None:
        """Open the language model for clips of `profile`, by default the profile with the most frames.

        The caches have room for `max_frames` of them, and if this is given, no smaller caches are chosen where the
        bundle has large enough ones. `dialect` and `shape` default to those that suit the runtime. `max_tokens` limits
        answers that are text, for all tasks or by task. Raises `BundleError` for a bundle without a language model or
        without graphs for this runtime, `ConfigError` if `max_memory_mb` is too small, `UnknownNameError`,
        `MissingDependencyError` and `RuntimeFailure`.
        """
        self._bundle, self._options = bundle, options or SessionOptions()
        self._max_tokens = _limits(max_tokens)
        self._language = _language(bundle)
        self.profile = _profile(self._language, profile)
        self._runtime, self._clip = open_runtime(runtime), False
        self._shape = shape or CallShape(fixed=runtime in PACKAGES)
        tokenizer = Tokenizer.open(bundle.path(self._language.tokenizer))
        tokenizer.agree(self._language.image_token, self._language.end_tokens)
        prepare(tokenizer)
        prompt = Prompt(tokenizer)
        tasks = shared_out(self._language)
        questions = read_questions(
            bundle.path(self._language.prompts), prompt, [t for ts in tasks.values() for t in ts]
        )
        most = self._language.profiles[self.profile].frames
        frames = most if max_frames is None else min(most, max_frames)
        needs = {
            name: self._needs(prompt, frames, {task: questions[task] for task in own}) for name, own in tasks.items()
        }
        self._fit = fit(
            bundle,
            self._language,
            self.profile,
            needs,
            dialects=(dialect,) if dialect else runtime_dialects(runtime),
            shape=self._shape,
            max_memory_mb=max_memory_mb,
            whole=max_frames is not None,
            on_device=runtime in PACKAGES or self._options.device != "cpu",
            is_built=self._is_built,
        )
        with ExitStack() as stack:
            self._vision = self._open(self._language.profiles[self.profile].graphs[self._fit.dialect])
            self._vision_of = self.profile
            stack.callback(lambda: self._vision.close())
            self._parts = Speaking(
                max_tokens=self._max_tokens,
                language=self._language,
                tokenizer=tokenizer,
                prompt=prompt,
                table=EmbeddingTable.open(bundle.path(self._language.embedding.file), self._language.embedding),
                questions=questions,
                models=self._models(tasks, stack),
            )
            self._stack = stack.pop_all()

    def __enter__(self) -> Reasoner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def memory_mb(self) -> float:
        """The memory held at rest, in MB of 10^6 bytes; see `Fit`."""
        return self._fit.memory_mb

    @property
    def fit(self) -> Fit:
        """The graphs that were opened."""
        return self._fit

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that this bundle can be asked."""
        return tuple(self._parts.questions)

    def begin(
        self,
        profile: str | None = None,
        *,
        source: tuple[int, int] | None = None,
        on_chunk: Callable[[], None] | None = None,
        on_tokens: Callable[[float, Array], None] | None = None,
    ) -> Clip:
        """Begin a clip of `profile`, by default the reasoner's; another profile's vision graph replaces the last one.

        See `Clip` for `source`, `on_chunk` and `on_tokens`. Raises `ConfigError` while another clip is open,
        `UnknownNameError` for an unknown profile, and `BundleError` for one without vision in the opened dialect.
        """
        if self._clip:
            raise ConfigError("a clip is open already, and only one can be open; close it first")
        name = self.profile if profile is None else _profile(self._language, profile)
        if name != self._vision_of:
            graph = self._language.profiles[name].graphs.get(self._fit.dialect)
            if graph is None:
                raise BundleError(f"profile {name!r} has no vision in {self._fit.dialect}; export it with that dialect")
            # Memory may not hold two vision graphs. If the new one does not open, the next clip opens its own again.
            self._vision_of = ""
            self._vision.close()
            self._vision = self._open(graph)
            self._vision_of = name
        clip = Clip(
            self._parts,
            self._vision,
            self._language.profiles[name],
            source=source,
            on_chunk=on_chunk,
            on_close=self._closed,
            on_tokens=on_tokens,
            # In the options, 0 lets the runtime choose its own number of threads.
            threads=max(1, self._options.threads),
        )
        self._clip = True
        return clip

    def close(self) -> None:
        """Release everything; clips of this reasoner cannot be used afterwards."""
        self._stack.close()

    def _closed(self) -> None:
        self._clip = False

    def _open(self, name: str) -> Session:
        graph, path = self._bundle.graph(name)
        return self._runtime.open(path, graph, self._options)

    def _is_built(self, name: str) -> bool:
        return self._runtime.why_unbuilt(self._bundle.graph(name)[1], self._options) is None

    def _needs(self, prompt: Prompt, frames: int, questions: Mapping[str, Ids]) -> Need:
        """Return the slots for a whole clip of `frames` with all its questions and answers, and with only one."""
        profile, language = self._language.profiles[self.profile], self._language
        tokens = profile.width * profile.height // (2 * language.patch) ** 2
        frame = len(prompt.frame(PromptFrame(time_s=_LATE_S, tokens=tokens), first=False))
        asked = [len(ids) + answer_room(task, self._max_tokens[task], free=False) for task, ids in questions.items()]
        clip = len(prompt.header()) + frames * frame + self._shape.slack
        return Need(slots=clip + sum(asked), least=clip + max(asked))

    def _models(self, tasks: dict[str, tuple[str, ...]], stack: ExitStack) -> tuple[TunedModel, ...]:
        sessions: dict[str, Session] = {}

        def opened(name: str) -> Session:
            if name not in sessions:
                sessions[name] = stack.enter_context(closing(self._open(name)))
            return sessions[name]

        return tuple(self._model(name, own, opened) for name, own in tasks.items())

    def _model(self, name: str, tasks: tuple[str, ...], opened: Callable[[str], Session]) -> TunedModel:
        adapter, decoder = self._language.adapters[name], self._fit.decoders[name]
        state, session = self._bundle.manifest.graphs[decoder.graph].state, opened(decoder.graph)
        lora = self._bundle.path(adapter.lora) if adapter.lora else None
        return TunedModel(
            name=name,
            tasks=tasks,
            projector=opened(adapter.projector[self._fit.dialect]),
            prefix=Prefix(
                session,
                state,
                fixed=lora_feeds(lora, session.inputs, state),
                shape=self._shape,
                buckets=self._fit.buckets[name],
            ),
            calibration=adapter.calibration or {},
        )


def _language(bundle: Bundle) -> Language:
    if bundle.manifest.language is None:
        raise BundleError(
            f"the bundle {bundle.manifest.name!r} has no language model, so it answers no questions; give another"
        )
    return bundle.manifest.language


def _limits(max_tokens: int | Mapping[str, int]) -> dict[str, int]:
    given = dict.fromkeys(TASK_IDS, max_tokens) if isinstance(max_tokens, int) else max_tokens
    for task, most in given.items():
        if find_task(task) and most < 1:
            raise ConfigError(f"expected answers of at least 1 token, found {most} for {task!r}")
    return {task: given.get(task, ANSWER_TOKENS) for task in TASK_IDS}


def _profile(language: Language, name: str | None) -> str:
    profiles = language.profiles
    if name is None:
        return max(profiles, key=lambda each: profiles[each].frames)
    if name not in profiles:
        raise UnknownNameError("profile of this bundle", name, list(profiles))
    return name
