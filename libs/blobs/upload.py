"""Sends a large blob in parts by several streams, and goes on where a killed upload stopped.

The store keeps the parts of an unfinished upload under the object's name, each with its sha256. So
whoever sends the same bytes to the same name finds them there and sends only the others; nothing
is remembered on this side. Completing names every part's etag, and is conditional like a small PUT:
an upload that another writer filled with other bytes is refused, never mixed.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple
from xml.etree import ElementTree

from urllib3 import BaseHTTPResponse

from libs.blobs.parts import Body, Source, Span, checksum, spans
from libs.blobs.s3 import S3, Headers, Request
from libs.errors import Conflict, NotFound, Unavailable

STREAMS = 4
"""Each holds one part in memory."""
_ALGORITHM = {"x-amz-checksum-algorithm": "SHA256"}


class _Part(NamedTuple):
    number: int
    etag: str
    sha256: str
    """As base64."""


class Refused(Conflict):
    """The upload was not completed by this call, for certain: no answer was lost."""


@dataclass(frozen=True, kw_only=True)
class Upload:
    """One object to be sent in parts."""

    s3: S3
    bucket: str
    key: str
    name: str
    """What the blob is called in messages."""
    source: Source

    def send(self, *, condition: Headers, metadata: Headers) -> str:
        """Send what is missing, complete the object, and return its etag.

        `metadata` is stored with the object unless an unfinished upload is taken up, which has
        its own.

        Raises:
            Conflict: the condition does not hold, or somebody else completed this upload.
        """
        upload_id, there = self._unfinished() or (self._start(metadata), [])
        query = {"uploadId": upload_id}
        missing = [
            (number, span)
            for number, span in enumerate(spans(self.source.size_bytes), 1)
            if number not in {part.number for part in there}
        ]
        try:
            sent = self._send_parts(missing, query)
            return self._complete(sorted([*there, *sent]), query, condition)
        except NotFound as error:
            raise Refused(f"{self.name}: its upload was ended by somebody else") from error
        except Conflict:
            self._abort(query)
            raise

    def _send_parts(self, missing: Sequence[tuple[int, Span]], query: Headers) -> list[_Part]:
        with ThreadPoolExecutor(min(STREAMS, max(len(missing), 1))) as pool:
            sending = [
                pool.submit(self._send_part, number, span, query) for number, span in missing
            ]
            try:
                return [each.result() for each in sending]
            finally:
                for each in sending:
                    each.cancel()

    def _send_part(self, number: int, span: Span, query: Headers) -> _Part:
        data = self.source.read(span)  # into memory: read once, for the digest and for the wire
        sha256 = checksum([hashlib.sha256(data).digest()])
        request = Request(
            what=f"part {number} of {self.name}",
            method="PUT",
            bucket=self.bucket,
            key=self.key,
            body=lambda: Body(data),
            headers={"x-amz-checksum-sha256": sha256},
            query={"partNumber": str(number), **query},
        )
        etag = self.s3.request(request, lambda response: response.headers["ETag"])
        return _Part(number, etag, sha256)

    def _start(self, metadata: Headers) -> str:
        headers = {**_ALGORITHM, **metadata}
        return _text(self._ask("POST", {"uploads": ""}, headers=headers), "UploadId")

    def _complete(self, parts: Sequence[_Part], query: Headers, condition: Headers) -> str:
        root = ElementTree.Element("CompleteMultipartUpload")
        for part in parts:
            element = ElementTree.SubElement(root, "Part")
            ElementTree.SubElement(element, "ChecksumSHA256").text = part.sha256
            ElementTree.SubElement(element, "ETag").text = part.etag
            ElementTree.SubElement(element, "PartNumber").text = str(part.number)
        text = ElementTree.tostring(root)
        sendings = itertools.count()

        def body() -> bytes:
            next(sendings)
            return text

        try:
            answer = self._ask("POST", query, body=body, headers=condition)
        except (Conflict, NotFound) as error:
            if next(sendings) == 1:
                raise Refused(str(error)) from error
            raise Conflict(str(error)) from error
        if answer.tag.endswith("Error"):  # S3 may find out after it has said 200
            raise Unavailable(f"{self.name}: {self.s3.server} says {_text(answer, 'Code')}")
        return _text(answer, "ETag").strip('"')

    def _abort(self, query: Headers) -> None:
        with suppress(NotFound):
            self._ask("DELETE", query)

    # Taking up.

    def _unfinished(self) -> tuple[str, list[_Part]] | None:
        """Return the unfinished upload with most parts of these bytes, if it has no others."""
        found = [(upload_id, self._parts_of(upload_id)) for upload_id in self._uploads()]
        fitting = [(upload_id, parts) for upload_id, parts in found if parts]
        return max(fitting, key=lambda each: len(each[1]), default=None)

    def _uploads(self) -> Iterator[str]:
        request = Request(
            what=f"unfinished uploads of {self.name}",
            method="GET",
            bucket=self.bucket,
            query={"uploads": "", "prefix": self.key},
        )
        for upload in self.s3.request(request, _xml).findall("{*}Upload"):
            if _text(upload, "Key") == self.key:
                yield _text(upload, "UploadId")

    def _parts_of(self, upload_id: str) -> list[_Part]:
        """Return the parts that were sent; none unless all of them are of these bytes."""
        places = dict(enumerate(spans(self.source.size_bytes), 1))
        parts = []
        with suppress(NotFound):
            for part, size_bytes in self._listed(upload_id):
                place = places.get(part.number)
                if place is None or place.size_bytes != size_bytes or not self._is(part, place):
                    return []
                parts.append(part)
        return parts

    def _is(self, part: _Part, place: Span) -> bool:
        return part.sha256 == checksum([self.source.digest(place)])

    def _listed(self, upload_id: str) -> Iterator[tuple[_Part, int]]:
        marker = "0"
        while marker:
            answer = self._ask("GET", {"uploadId": upload_id, "part-number-marker": marker})
            for part in answer.findall("{*}Part"):
                found = _Part(
                    int(_text(part, "PartNumber")),
                    _text(part, "ETag"),
                    _text(part, "ChecksumSHA256"),
                )
                yield found, int(_text(part, "Size"))
            is_more = _text(answer, "IsTruncated") == "true"
            marker = _text(answer, "NextPartNumberMarker") if is_more else ""

    def _ask(
        self,
        method: str,
        query: Headers,
        *,
        body: bytes | Callable[[], bytes] = b"",
        headers: Headers | None = None,
    ) -> ElementTree.Element:
        request = Request(
            what=f"upload of {self.name}",
            method=method,
            bucket=self.bucket,
            key=self.key,
            body=body,
            headers=headers or {},
            query=query,
        )
        return self.s3.request(request, _xml)


def _xml(response: BaseHTTPResponse) -> ElementTree.Element:
    data = response.read()
    return ElementTree.fromstring(data) if data else ElementTree.Element("Empty")


def _text(element: ElementTree.Element, tag: str) -> str:
    return element.findtext(f"{{*}}{tag}") or ""
