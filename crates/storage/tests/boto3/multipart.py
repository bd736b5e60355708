"""Multipart uploads, copies, and what the transfer manager makes of them."""

import base64
import hashlib
import io
import tempfile
import unittest
import zlib

from boto3.s3.transfer import TransferConfig
from support import Test, md5, noise

PART = 5 << 20


class Multipart(Test):
    PARTS = [noise(1, PART), noise(2, PART), noise(3, 1000)]

    def begin(self, key="big", **options):
        return {
            "Bucket": "files",
            "Key": key,
            "UploadId": self.s3.create_multipart_upload(Bucket="files", Key=key, **options)["UploadId"],
        }

    def upload(self, where, parts=None, **options):
        named = []
        for number, part in enumerate(parts or self.PARTS, 1):
            etag = self.s3.upload_part(**where, PartNumber=number, Body=part, **options)["ETag"]
            self.assertEqual(etag, f'"{md5(part)}"')
            named.append({"PartNumber": number, "ETag": etag})
        return named

    def complete(self, where, named, **options):
        return self.s3.complete_multipart_upload(**where, MultipartUpload={"Parts": named}, **options)

    def test_three_parts_become_one_object(self):
        where = self.begin(ContentType="video/mp4", Metadata={"a": "b"})
        named = self.upload(where)
        self.absent("big")
        listed = self.s3.list_parts(**where)
        found = [(part["PartNumber"], part["ETag"], part["Size"]) for part in listed["Parts"]]
        expected = [(at + 1, f'"{md5(part)}"', len(part)) for at, part in enumerate(self.PARTS)]
        self.assertEqual(found, expected)
        pages = self.s3.get_paginator("list_parts").paginate(**where, PaginationConfig={"PageSize": 2})
        pages = [[part["PartNumber"] for part in page["Parts"]] for page in pages]
        self.assertEqual(pages, [[1, 2], [3]])

        done = self.complete(where, named)
        digests = b"".join(hashlib.md5(part).digest() for part in self.PARTS)
        self.assertEqual(done["ETag"], f'"{md5(digests)}-3"')
        whole = b"".join(self.PARTS)
        self.assertEqual(self.read("big"), whole)
        self.assertEqual(self.read("big", Range=f"bytes={PART - 2}-{2 * PART + 1}"), whole[PART - 2 : 2 * PART + 2])
        second = self.s3.get_object(Bucket="files", Key="big", PartNumber=2)
        self.assertEqual(second["Body"].read(), self.PARTS[1])
        self.assertEqual(second["PartsCount"], 3)
        self.assertEqual(second["ContentRange"], f"bytes {PART}-{2 * PART - 1}/{len(whole)}")
        head = self.s3.head_object(Bucket="files", Key="big")
        self.assertEqual((head["ContentType"], head["Metadata"]), ("video/mp4", {"a": "b"}))
        self.assertEqual(head["ContentLength"], len(whole))
        # A client that missed the answer asks again; a part comes too late.
        self.assertEqual(self.complete(where, named)["ETag"], done["ETag"])
        with self.refused("NoSuchUpload", 404):
            self.s3.upload_part(**where, PartNumber=1, Body=b"late")

    def test_an_aborted_upload_is_gone(self):
        where = self.begin("aborted")
        named = self.upload(where)
        uploads = lambda: self.s3.list_multipart_uploads(Bucket="files", Prefix="aborted").get("Uploads", [])
        self.assertEqual([upload["UploadId"] for upload in uploads()], [where["UploadId"]])
        self.s3.abort_multipart_upload(**where)
        self.assertEqual(uploads(), [])
        for call in (
            lambda: self.s3.list_parts(**where),
            lambda: self.s3.upload_part(**where, PartNumber=1, Body=b"x"),
            lambda: self.complete(where, named),
            lambda: self.s3.abort_multipart_upload(**where),
        ):
            with self.refused("NoSuchUpload", 404):
                call()
        self.absent("aborted")

    def test_uploads_are_listed_page_by_page(self):
        begun = [self.begin(key) for key in ("up/a", "up/a", "up/b", "up/ü")]
        expected = sorted((where["Key"], where["UploadId"]) for where in begun)
        for size in (1, 3, 4):
            pages = self.s3.get_paginator("list_multipart_uploads").paginate(
                Bucket="files", Prefix="up/", PaginationConfig={"PageSize": size}
            )
            found = [(upload["Key"], upload["UploadId"]) for page in pages for upload in page["Uploads"]]
            self.assertEqual(found, expected)
        for where in begun:
            self.s3.abort_multipart_upload(**where)

    def test_what_does_not_fit_together_is_refused(self):
        where = self.begin("refused")
        named = self.upload(where)
        for code, parts in [
            ("InvalidPartOrder", named[::-1]),
            ("InvalidPart", [{"PartNumber": 1, "ETag": '"00000000000000000000000000000000"'}]),
            ("InvalidPart", named + [{"PartNumber": 9, "ETag": named[0]["ETag"]}]),
            ("MalformedXML", []),
        ]:
            with self.refused(code, 400):
                self.complete(where, parts)
        for number in (0, 10_001):
            with self.refused("InvalidArgument", 400):
                self.s3.upload_part(**where, PartNumber=number, Body=b"x")
        other = {**where, "Key": "another key"}
        with self.refused("NoSuchUpload", 404):
            self.complete(other, named)
        with self.refused("NoSuchUpload", 404):
            self.s3.list_parts(**{**where, "UploadId": "../../index.sqlite"})
        wrong = base64.b64encode(hashlib.md5(b"other").digest()).decode()
        with self.refused("BadDigest", 400):
            self.s3.upload_part(**where, PartNumber=1, Body=self.PARTS[1], ContentMD5=wrong)
        # The part that was there is still there, and conditions hold for the whole.
        self.s3.put_object(Bucket="files", Key="refused", Body=b"already")
        with self.refused("PreconditionFailed", 412):
            self.complete(where, named, IfNoneMatch="*")
        self.complete(where, named)
        self.assertEqual(self.read("refused"), b"".join(self.PARTS))
        small = self.begin("small")
        with self.refused("EntityTooSmall", 400):
            self.complete(small, self.upload(small, [b"small", b"parts"]))

    def test_checksums_of_the_whole_and_of_the_parts(self):
        whole = b"".join(self.PARTS)
        text = lambda digest: base64.b64encode(digest).decode()
        where = self.begin("full", ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
        named = self.upload(where, ChecksumAlgorithm="CRC32")
        wrong = text(zlib.crc32(b"other").to_bytes(4, "big"))
        with self.refused("BadDigest", 400):
            self.complete(where, named, ChecksumCRC32=wrong, ChecksumType="FULL_OBJECT")
        done = self.complete(where, named)
        right = text(zlib.crc32(whole).to_bytes(4, "big"))
        self.assertEqual((done["ChecksumCRC32"], done["ChecksumType"]), (right, "FULL_OBJECT"))

        where = self.begin("composite", ChecksumAlgorithm="SHA256")
        named = self.upload(where, ChecksumAlgorithm="SHA256")
        listed = self.s3.list_parts(**where)["Parts"]
        sums = [hashlib.sha256(part).digest() for part in self.PARTS]
        self.assertEqual([part["ChecksumSHA256"] for part in listed], [text(digest) for digest in sums])
        named = [{**part, "ChecksumSHA256": text(digest)} for part, digest in zip(named, sums)]
        bad = [{**named[0], "ChecksumSHA256": text(sums[1])}, *named[1:]]
        with self.refused("InvalidPart", 400):
            self.complete(where, bad)
        done = self.complete(where, named)
        right = text(hashlib.sha256(b"".join(sums)).digest()) + "-3"
        self.assertEqual((done["ChecksumSHA256"], done["ChecksumType"]), (right, "COMPOSITE"))
        head = self.s3.head_object(Bucket="files", Key="composite", ChecksumMode="ENABLED")
        self.assertEqual(head["ChecksumSHA256"], right)

    def test_a_part_is_copied_from_an_object(self):
        source = noise(4, PART + 1000)
        self.s3.put_object(Bucket="assets", Key="source ü", Body=source)
        where = self.begin("from parts")
        copy = {**where, "CopySource": {"Bucket": "assets", "Key": "source ü"}}
        named = []
        for number, first, last in ((1, 0, PART - 1), (2, PART, PART + 999)):
            answer = self.s3.upload_part_copy(**copy, PartNumber=number, CopySourceRange=f"bytes={first}-{last}")
            named.append({"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]})
        for text, code, status in (
            (f"bytes=5-{PART + 1000}", "InvalidRange", 416),
            (f"bytes=0-{2**64 - 1}", "InvalidRange", 416),
            ("bytes=5-", "InvalidArgument", 400),
        ):
            with self.refused(code, status):
                self.s3.upload_part_copy(**copy, PartNumber=3, CopySourceRange=text)
        self.complete(where, named)
        self.assertEqual(self.read("from parts"), source)


class Copies(Test):
    def test_a_copy_has_a_life_of_its_own(self):
        data = noise(5, 300_000)
        options = {"ContentType": "text/csv", "Metadata": {"who": "first"}}
        self.s3.put_object(Bucket="files", Key="original", Body=data, **options)
        source = {"Bucket": "files", "Key": "original"}
        answer = self.s3.copy_object(Bucket="assets", Key="kept", CopySource=source)
        self.assertEqual(answer["CopyObjectResult"]["ETag"], f'"{md5(data)}"')
        replaced = {"MetadataDirective": "REPLACE", "ContentType": "text/plain", "Metadata": {"who": "second"}}
        self.s3.copy_object(Bucket="assets", Key="replaced", CopySource=source, **replaced)
        self.s3.delete_object(Bucket="files", Key="original")
        for key, kind, who in (("kept", "text/csv", "first"), ("replaced", "text/plain", "second")):
            self.assertEqual(self.read(key, "assets"), data)
            head = self.s3.head_object(Bucket="assets", Key=key)
            self.assertEqual((head["ContentType"], head["Metadata"]), (kind, {"who": who}))
        with self.refused("NoSuchKey", 404):
            self.s3.copy_object(Bucket="assets", Key="none", CopySource=source)

    def test_onto_itself_only_with_something_new(self):
        self.s3.put_object(Bucket="files", Key="self", Body=noise(6, 100_000), Metadata={"n": "1"})
        source = {"Bucket": "files", "Key": "self"}
        with self.refused("InvalidRequest", 400):
            self.s3.copy_object(**source, CopySource=source)
        self.s3.copy_object(**source, CopySource=source, MetadataDirective="REPLACE", Metadata={"n": "2"})
        self.assertEqual(self.s3.head_object(**source)["Metadata"], {"n": "2"})
        self.assertEqual(self.read("self"), noise(6, 100_000))

    def test_conditions_of_a_copy(self):
        etag = self.s3.put_object(Bucket="files", Key="cond", Body=b"x")["ETag"]
        copy = lambda **conditions: self.s3.copy_object(
            Bucket="files", Key="cond copy", CopySource={"Bucket": "files", "Key": "cond"}, **conditions
        )
        for conditions in ({"CopySourceIfMatch": '"other"'}, {"CopySourceIfNoneMatch": etag}):
            with self.refused("PreconditionFailed", 412):
                copy(**conditions)
        self.absent("cond copy")
        copy(CopySourceIfMatch=etag, IfNoneMatch="*")
        with self.refused("PreconditionFailed", 412):
            copy(IfNoneMatch="*")


class Transfers(Test):
    def test_the_transfer_manager_moves_64_mib_in_parallel_parts(self):
        whole = noise(7, 1 << 20) * 64
        config = TransferConfig(multipart_threshold=8 << 20, multipart_chunksize=8 << 20, max_concurrency=4)
        self.s3.upload_fileobj(io.BytesIO(whole), "files", "moved", Config=config)
        head = self.s3.head_object(Bucket="files", Key="moved")
        self.assertEqual(head["ContentLength"], len(whole))
        self.assertTrue(head["ETag"].endswith('-8"'), head["ETag"])
        with tempfile.TemporaryFile() as target:
            self.s3.download_fileobj("files", "moved", target, Config=config)
            target.seek(0)
            self.assertEqual(hashlib.file_digest(target, "sha256").digest(), hashlib.sha256(whole).digest())
        self.s3.copy({"Bucket": "files", "Key": "moved"}, "assets", "moved", Config=config)
        self.assertEqual(self.s3.head_object(Bucket="assets", Key="moved")["ContentLength"], len(whole))
        self.assertEqual(self.read("moved", "assets", Range="bytes=-1048576"), whole[-1048576:])


if __name__ == "__main__":
    unittest.main()
