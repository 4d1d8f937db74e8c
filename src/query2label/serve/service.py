"""A request from its body to its answer: admission, decoding beside the event loop, batches, time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from query2label.errors import ImageError
from query2label.inference.threads import usable_processors
from query2label.serve.batching import Batcher, Scored
from query2label.serve.bodies import Buffers, Upload, read_upload
from query2label.serve.limits import Limits
from query2label.serve.metrics import Metrics
from query2label.serve.model import Choice, DecodedImage, ServedModel
from query2label.serve.multipart import SentImage
from query2label.serve.options import Options
from query2label.serve.refusal import BusyError, InvalidRequestError
from query2label.serve.schemas import BrokenImage, ImageAnswer, PredictAnswer, PredictQuery

Result = TypeVar("Result")

_BATCH: Final = 8
_CALLERS: Final = 2
"""Of a runtime that computes single images faster than batches: where one waits, the other one works."""


@dataclass(frozen=True)
class Answered:
    """An answer, ready to be sent, and what the log says of it."""

    body: bytes
    num_images: int
    num_broken: int


@dataclass(frozen=True)
class _Seen:
    """An image of a request, and what the model gave for it, or why it could not be read."""

    name: str | None
    result: tuple[DecodedImage, Scored] | str


class Service:
    """What the routes share in one process; nothing of it is shared with other processes.

    Args:
        model: What is served.
        limits: Of requests.
        metrics: Are told what happens.
    """

    def __init__(self, model: ServedModel, limits: Limits, metrics: Metrics) -> None:
        self.model = model
        self.limits = limits
        self.metrics = metrics
        self.is_warm = False
        self.is_draining = False
        self.num_images = 0
        self.buffers = Buffers(limits.max_buffered_bytes)
        self._max_batch = limits.max_batch or (_BATCH if model.pays_to_batch else 1)
        self._batcher = Batcher(
            metrics.timed_compute(model.compute),
            max_batch=self._max_batch,
            num_threads=1 if model.pays_to_batch else _CALLERS,
        )
        self._threads = ThreadPoolExecutor(max(2, usable_processors()), thread_name_prefix="q2l-images")

    @property
    def is_ready(self) -> bool:
        """Whether requests should be sent here."""
        return self.is_warm and not self.is_draining

    def require_ready(self) -> None:
        """Checks that requests should be sent here.

        Raises:
            BusyError: If they should not: yet, or any more.
        """
        if self.is_draining:
            raise BusyError("draining", "The service is about to end")
        if not self.is_warm:
            raise BusyError("not_ready", "The model is being prepared")

    async def warm_up(self) -> None:
        """Makes the service ready."""
        await self._in_thread(self.model.warm_up, self._max_batch)
        self.is_warm = True

    async def close(self) -> None:
        """Ends the threads; what is in work is finished."""
        await asyncio.to_thread(self._batcher.close)
        self._threads.shutdown(cancel_futures=True)

    async def predict(self, request: Request, query: PredictQuery) -> Answered:
        """The answer to a request whose body was not read yet; every other `RequestError` is possible.

        Raises:
            BusyError: If it takes too long.
            ClientDisconnect: If its sender has gone.
        """
        self._admit(1)
        async with self.buffers.share() as take_bytes:
            upload = await read_upload(request, self.limits, take_bytes=take_bytes, in_thread=self._in_thread)
            with self._room_for(len(upload.images)):
                work = asyncio.ensure_future(self._answer(upload, query))
                gone = asyncio.ensure_future(_until_disconnected(request))
                try:
                    await asyncio.wait(
                        {work, gone},
                        timeout=self.limits.answer_seconds,
                        return_when=asyncio.FIRST_COMPLETED,
                    )
                    if work.done():
                        return work.result()
                    if gone.done():
                        raise ClientDisconnect
                finally:
                    work.cancel()
                    gone.cancel()
        raise BusyError("timed_out", f"No answer within {self.limits.answer_seconds:g} seconds")

    def _admit(self, num_images: int) -> None:
        """Checks, before anything else is done, whether so many images more may come.

        Raises:
            BusyError: If they may not.
        """
        if not self.is_warm:
            raise BusyError("not_ready", "The model is being prepared")
        if self.num_images + num_images > self.limits.queue:
            self.metrics.refused.inc()
            raise BusyError("overloaded", "The service is at its capacity")

    @contextmanager
    def _room_for(self, num_images: int) -> Iterator[None]:
        self._admit(num_images)
        self.num_images += num_images
        try:
            yield
        finally:
            self.num_images -= num_images

    async def _answer(self, upload: Upload, query: PredictQuery) -> Answered:
        options = Options.of_query(query).joined(upload.options)
        choice = self.model.choice(options)
        images = enumerate(upload.images)
        seen = await asyncio.gather(
            *(self._see(image, upload.unreadable.get(index), choice) for index, image in images)
        )
        return await self._in_thread(self._finished, seen, choice, bool(options.attention))

    async def _see(self, image: SentImage, unreadable: str | None, choice: Choice) -> _Seen:
        if unreadable is not None:
            return _Seen(image.name, unreadable)
        try:
            decoded = await self._in_thread(self._decode, image.data)
        except ImageError as error:
            return _Seen(image.name, str(error))
        future = self._batcher.submit(decoded.pixels, attention=choice.wants_attention)
        return _Seen(image.name, (decoded, await asyncio.wrap_future(future)))

    def _decode(self, data: bytes) -> DecodedImage:
        with self.metrics.decode_seconds.time():
            return self.model.decode(data, max_pixels=self.limits.max_pixels)

    def _finished(self, seen: list[_Seen], choice: Choice, asked_attention: bool) -> Answered:
        """The body of the answer.

        Raises:
            InvalidRequestError: If no image could be read.
        """
        answers = [
            ImageAnswer(name=image.name, error=image.result)
            if isinstance(image.result, str)
            else self.model.answer(image.name, *image.result, choice)
            for image in seen
        ]
        broken = [
            BrokenImage(index=index, name=answer.name, message=answer.error)
            for index, answer in enumerate(answers)
            if answer.error is not None
        ]
        self.metrics.count_images(scored=len(answers) - len(broken), broken=len(broken))
        if len(broken) == len(answers):
            message = broken[0].message if len(broken) == 1 else "None of the images can be read."
            raise InvalidRequestError(message, images=broken, code="unreadable_image")
        why = self.model.no_attention if asked_attention else None
        body = PredictAnswer(predictions=answers, no_attention=why).model_dump_json().encode()
        return Answered(body, len(answers), len(broken))

    async def _in_thread(self, function: Callable[..., Result], /, *arguments: Any) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)


async def _until_disconnected(request: Request) -> None:
    """Waits until the sender of a request, whose body is read, has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
