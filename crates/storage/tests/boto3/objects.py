"""Objects: every verb, ranges, conditions, metadata, keys, listings, checksums, and one that is large."""

import base64
import datetime
import hashlib
import io
import unittest
import zlib

from support import Test, md5, noise


class Buckets(Test):
    def test_the_application_sees_its_own_names(self):
        for key, expected in (("reader", ["files"]), ("production", ["books", "files"])):
            answer = self.client(key).list_buckets()
            self.assertEqual([bucket["Name"] for bucket in answer["Buckets"]], expected)
            self.assertEqual(answer["Owner"]["ID"], key)

    def test_a_bucket_of_the_manifest_is_created_used_and_deleted(self):
        with self.refused("404", 404):
            self.s3.head_bucket(Bucket="later")
        with self.refused("AccessDenied", 403):
            self.s3.create_bucket(Bucket="of-my-own")
        self.s3.create_bucket(Bucket="later")
        self.s3.head_bucket(Bucket="later")
        names = [bucket["Name"] for bucket in self.s3.list_buckets()["Buckets"]]
        self.assertEqual(names, ["assets", "files", "later"])
        with self.refused("BucketAlreadyOwnedByYou", 409):
            self.s3.create_bucket(Bucket="later")
        self.s3.put_object(Bucket="later", Key="k", Body=b"x")
        with self.refused("BucketNotEmpty", 409):
            self.s3.delete_bucket(Bucket="later")
        self.s3.delete_object(Bucket="later", Key="k")
        self.s3.delete_bucket(Bucket="later")
        with self.refused("NoSuchBucket", 404):
            self.s3.list_objects_v2(Bucket="later")


class Objects(Test):
    def test_every_size_comes_back_whole(self):
        for size in [0, 1, 16 << 10, (16 << 10) + 1, 3 << 20]:
            data = noise(size, size)
            put = self.s3.put_object(Bucket="files", Key=f"size/{size}", Body=data)
            self.assertEqual(put["ETag"], f'"{md5(data)}"')
            got = self.s3.get_object(Bucket="files", Key=f"size/{size}")
            self.assertEqual(got["Body"].read(), data)
            for described in (got, self.s3.head_object(Bucket="files", Key=f"size/{size}")):
                self.assertEqual(described["ContentLength"], size)
                self.assertEqual(described["ETag"], put["ETag"])
                age = datetime.datetime.now(datetime.timezone.utc) - described["LastModified"]
                self.assertLess(abs(age.total_seconds()), 60)

    def test_what_was_overwritten_or_deleted_is_gone(self):
        self.s3.put_object(Bucket="files", Key="gone", Body=noise(1, 50_000))
        self.s3.put_object(Bucket="files", Key="gone", Body=b"second")
        self.assertEqual(self.read("gone"), b"second")
        deleted = self.s3.delete_object(Bucket="files", Key="gone")
        self.assertEqual(deleted["ResponseMetadata"]["HTTPStatusCode"], 204)
        self.absent("gone")
        with self.refused("404", 404):
            self.s3.head_object(Bucket="files", Key="gone")
        self.s3.delete_object(Bucket="files", Key="gone")
        with self.refused("NoSuchBucket", 404):
            self.s3.put_object(Bucket="nowhere", Key="k", Body=b"")

    def test_many_are_deleted_at_once(self):
        for number in range(4):
            self.s3.put_object(Bucket="files", Key=f"many/{number}", Body=b"x")
        delete = {"Objects": [{"Key": f"many/{number}"} for number in (0, 1, 9)]}
        answer = self.s3.delete_objects(Bucket="files", Delete=delete)
        self.assertEqual([entry["Key"] for entry in answer["Deleted"]], ["many/0", "many/1", "many/9"])
        self.assertNotIn("Errors", answer)
        quiet = {"Objects": [{"Key": "many/2"}], "Quiet": True}
        self.assertNotIn("Deleted", self.s3.delete_objects(Bucket="files", Delete=quiet))
        self.assertEqual(self.keys(Prefix="many/"), ["many/3"])
        with self.refused("MalformedXML", 400):
            self.s3.delete_objects(Bucket="files", Delete={"Objects": [{"Key": "k"}] * 1001})

    def test_ranges(self):
        for key, data in (("range/file", noise(5, 100_000)), ("range/inline", noise(6, 1000))):
            size = len(data)
            self.s3.put_object(Bucket="files", Key=key, Body=data)
            for header, first, end in [
                ("bytes=0-0", 0, 1),
                ("bytes=10-19", 10, 20),
                (f"bytes={size - 1}-", size - 1, size),
                ("bytes=-7", size - 7, size),
                (f"bytes=-{size * 2}", 0, size),
                (f"bytes=5-{size * 3}", 5, size),
                (f"bytes=5-{2**63 - 1}", 5, size),
                (f"bytes=-{2**63 - 1}", 0, size),
            ]:
                got = self.s3.get_object(Bucket="files", Key=key, Range=header)
                self.assertEqual(got["Body"].read(), data[first:end], header)
                self.assertEqual(got["ResponseMetadata"]["HTTPStatusCode"], 206, header)
                self.assertEqual(got["ContentRange"], f"bytes {first}-{end - 1}/{size}", header)
                self.assertEqual(got["ContentLength"], end - first, header)
            for header in (f"bytes={size}-", f"bytes={2**62}-{2**63 - 1}", "bytes=-0"):
                with self.refused("InvalidRange", 416) as caught:
                    self.s3.get_object(Bucket="files", Key=key, Range=header)
                headers = caught.exception.response["ResponseMetadata"]["HTTPHeaders"]
                self.assertEqual(headers["content-range"], f"bytes */{size}")

    def test_conditions(self):
        past = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
        future = past + datetime.timedelta(days=2)
        put = lambda **conditions: self.s3.put_object(Bucket="files", Key="if", Body=b"second", **conditions)
        with self.refused("NoSuchKey", 404):
            put(IfMatch='"00000000000000000000000000000000"')
        etag = self.s3.put_object(Bucket="files", Key="if", Body=b"first", IfNoneMatch="*")["ETag"]
        for conditions in ({"IfNoneMatch": "*"}, {"IfMatch": '"00000000000000000000000000000000"'}):
            with self.refused("PreconditionFailed", 412):
                put(**conditions)
        self.assertEqual(self.read("if"), b"first")
        for conditions in ({"IfMatch": etag}, {"IfNoneMatch": '"other"'}, {"IfModifiedSince": past}):
            self.assertEqual(self.read("if", **conditions), b"first", conditions)
        self.assertEqual(self.read("if", IfMatch=etag, IfUnmodifiedSince=past), b"first")
        for conditions in ({"IfNoneMatch": etag}, {"IfNoneMatch": "*"}, {"IfModifiedSince": future}):
            for call in (self.s3.get_object, self.s3.head_object):
                with self.refused("304", 304) as caught:
                    call(Bucket="files", Key="if", **conditions)
                headers = caught.exception.response["ResponseMetadata"]["HTTPHeaders"]
                self.assertEqual(headers["etag"], etag)
        for conditions in ({"IfMatch": '"other"'}, {"IfUnmodifiedSince": past}):
            with self.refused("PreconditionFailed", 412):
                self.s3.get_object(Bucket="files", Key="if", **conditions)
        put(IfMatch=etag)
        self.assertEqual(self.read("if"), b"second")

    def test_metadata_and_content_types(self):
        expires = datetime.datetime(2031, 2, 3, 4, 5, 6, tzinfo=datetime.timezone.utc)
        headers = {
            "ContentType": "text/plain; charset=utf-8",
            "ContentLanguage": "de-CH",
            "ContentDisposition": 'attachment; filename="a b.txt"',
            "ContentEncoding": "gzip",
            "CacheControl": "max-age=60, immutable",
            "Metadata": {"name": "value of it", "empty": "", "x": "=?UTF-8?B?w6Q=?="},
        }
        self.s3.put_object(Bucket="files", Key="meta", Body=b"x", Expires=expires, **headers)
        for answer in (
            self.s3.head_object(Bucket="files", Key="meta"),
            self.s3.get_object(Bucket="files", Key="meta"),
        ):
            found = {name: answer[name] for name in headers}
            self.assertEqual(found, headers)
            self.assertEqual(answer["ExpiresString"], "Mon, 03 Feb 2031 04:05:06 GMT")
            answer.get("Body", io.BytesIO()).close()
        self.s3.put_object(Bucket="files", Key="meta", Body=b"x")
        plain = self.s3.head_object(Bucket="files", Key="meta")
        self.assertEqual((plain["ContentType"], plain["Metadata"]), ("application/octet-stream", {}))
        with self.refused("MetadataTooLarge", 400):
            self.s3.put_object(Bucket="files", Key="meta", Body=b"x", Metadata={"n": "v" * 8192})

    def test_keys_are_bytes_and_never_paths(self):
        keys = [
            "ä/ö ü/日本語/🦀",
            "../../etc/passwd",
            "..",
            ".",
            "/",
            "//",
            "a//b",
            "a/./b",
            "a/../b",
            "%2e%2e%2f",
            "a+b c&d=e?f#g%h",
            "~'\"!*();:@$,[]\\|<>^`{}",
            " lead and trail ",
            "tab\tnewline\nend",
            "e\u0301",
            "é",
            "k" * 1024,
        ]
        for number, key in enumerate(keys):
            self.s3.put_object(Bucket="assets", Key=key, Body=f"{number}".encode())
        for number, key in enumerate(keys):
            self.assertEqual(self.read(key, "assets"), f"{number}".encode(), key)
        self.assertEqual(self.keys("assets"), sorted(keys, key=str.encode))
        copied = self.s3.copy_object(
            Bucket="assets", Key="copy of +%& ü", CopySource={"Bucket": "assets", "Key": keys[10]}
        )
        self.assertEqual(copied["CopyObjectResult"]["ETag"], f'"{md5(b"10")}"')
        with self.refused("KeyTooLongError", 400):
            self.s3.put_object(Bucket="assets", Key="k" * 1025, Body=b"")
        delete = {"Objects": [{"Key": key} for key in keys[:13] + keys[14:]]}
        self.s3.delete_objects(Bucket="assets", Delete=delete)
        self.assertEqual(self.keys("assets"), ["copy of +%& ü", "tab\tnewline\nend"])


class Listings(Test):
    KEYS = [f"list/{folder}/{name}" for folder in "abc" for name in ("1", "2", "ä")] + ["list/top", "list/über"]

    def setUp(self):
        super().setUp()
        for key in self.KEYS + ["lisu"]:
            self.s3.put_object(Bucket="files", Key=key, Body=key.encode())

    def pages(self, operation="list_objects_v2", **options):
        options = {"Bucket": "files", "Prefix": "list/", **options}
        return list(self.s3.get_paginator(operation).paginate(**options))

    def test_pages_join_to_the_whole(self):
        for operation in ("list_objects_v2", "list_objects"):
            for size in (1, 2, 3, 10, 11, 12):
                pages = self.pages(operation, PaginationConfig={"PageSize": size})
                entries = [entry for page in pages for entry in page["Contents"]]
                self.assertEqual([entry["Key"] for entry in entries], self.KEYS)
                self.assertEqual(len(pages), -(-len(self.KEYS) // size), size)
                self.assertEqual([page["IsTruncated"] for page in pages], [True] * (len(pages) - 1) + [False])
            for entry in entries:
                self.assertEqual(entry["ETag"], f'"{md5(entry["Key"].encode())}"')
                self.assertEqual(entry["Size"], len(entry["Key"].encode()))

    def test_a_delimiter_rolls_up(self):
        for operation in ("list_objects_v2", "list_objects"):
            for size in (1, 2, 4, 5, 1000):
                pages = self.pages(operation, Delimiter="/", PaginationConfig={"PageSize": size})
                prefixes = [entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", [])]
                keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
                self.assertEqual(prefixes, ["list/a/", "list/b/", "list/c/"], (operation, size))
                self.assertEqual(keys, ["list/top", "list/über"], (operation, size))
        page = self.s3.list_objects_v2(Bucket="files", Prefix="list/", Delimiter="/", MaxKeys=4)
        self.assertEqual((page["KeyCount"], page["MaxKeys"], page["IsTruncated"]), (4, 4, True))
        pages = self.pages(Prefix="list/a/", Delimiter="ä")
        self.assertEqual([entry["Prefix"] for entry in pages[0]["CommonPrefixes"]], ["list/a/ä"])

    def test_starting_points(self):
        self.assertEqual(self.keys(Prefix="list/", StartAfter="list/c/2"), self.KEYS[8:])
        self.assertEqual(self.keys(Prefix="list/", StartAfter="zzz"), [])
        self.assertEqual(self.keys(Prefix="list/none"), [])
        empty = self.s3.list_objects_v2(Bucket="files", Prefix="list/", MaxKeys=0)
        self.assertEqual((empty["KeyCount"], empty["IsTruncated"]), (0, False))
        with self.refused("InvalidRequest", 400):
            self.s3.list_objects_v2(Bucket="files", ContinuationToken="not one of ours!")
        with self.refused("InvalidArgument", 400):
            self.s3.list_objects_v2(Bucket="files", MaxKeys=-1)


class Checksums(Test):
    def test_those_asked_for_are_kept_and_given_back(self):
        data = noise(8, 200_000)
        digests = {
            "SHA256": hashlib.sha256(data).digest(),
            "SHA1": hashlib.sha1(data).digest(),
            "CRC32": zlib.crc32(data).to_bytes(4, "big"),
        }
        for name, digest in digests.items():
            text = base64.b64encode(digest).decode()
            put = self.s3.put_object(Bucket="files", Key="sum", Body=data, ChecksumAlgorithm=name)
            self.assertEqual(put[f"Checksum{name}"], text)
            head = self.s3.head_object(Bucket="files", Key="sum", ChecksumMode="ENABLED")
            self.assertEqual((head[f"Checksum{name}"], head["ChecksumType"]), (text, "FULL_OBJECT"))
        # The check value of the CRC catalogue.
        crc64 = base64.b64encode(bytes.fromhex("ae8b14860a799888")).decode()
        self.s3.put_object(Bucket="files", Key="sum", Body=b"123456789", ChecksumCRC64NVME=crc64)
        head = self.s3.head_object(Bucket="files", Key="sum", ChecksumMode="ENABLED")
        self.assertEqual(head["ChecksumCRC64NVME"], crc64)

    def test_wrong_ones_store_nothing(self):
        data = noise(9, 100_000)
        right = base64.b64encode(hashlib.sha256(data).digest()).decode()
        wrong = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
        wrong_md5 = base64.b64encode(hashlib.md5(b"other").digest()).decode()
        for code, options in [
            ("BadDigest", {"ChecksumSHA256": wrong}),
            ("BadDigest", {"ContentMD5": wrong_md5, "ChecksumSHA256": right}),
            ("InvalidDigest", {"ContentMD5": "bm90IGEgZGlnZXN0", "ChecksumSHA256": right}),
        ]:
            with self.refused(code, 400):
                self.s3.put_object(Bucket="files", Key="bad sum", Body=data, **options)
            self.absent("bad sum")


class Large(Test):
    SIZE = 64 << 20

    def test_a_large_object_streams_in_and_out(self):
        block = noise(10, 1 << 20)
        whole = block * (self.SIZE >> 20)
        digest = hashlib.sha256(whole)
        text = base64.b64encode(digest.digest()).decode()
        put = self.s3.put_object(Bucket="files", Key="large", Body=io.BytesIO(whole), ChecksumSHA256=text)
        self.assertEqual((put["ETag"], put["ChecksumSHA256"]), (f'"{md5(whole)}"', text))
        # The bytes that are asked for as a stream of pieces are those that were sent.
        got = self.s3.get_object(Bucket="files", Key="large", ChecksumMode="ENABLED")
        self.assertEqual((got["ContentLength"], got["ChecksumSHA256"]), (self.SIZE, text))
        running = hashlib.sha256()
        for piece in got["Body"].iter_chunks(1 << 20):
            running.update(piece)
        self.assertEqual(running.digest(), digest.digest())
        middle = self.read("large", Range=f"bytes={(40 << 20) - 3}-{(40 << 20) + 2}")
        self.assertEqual(middle, block[-3:] + block[:3])
        # One that stops reading half-way harms nobody.
        half = self.s3.get_object(Bucket="files", Key="large")["Body"]
        self.assertEqual(half.read(1 << 20), block)
        half.close()
        self.s3.delete_object(Bucket="files", Key="large")
        self.absent("large")


if __name__ == "__main__":
    unittest.main()
