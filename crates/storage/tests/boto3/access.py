"""What must be refused: wrong keys and signatures, other buckets, old and altered requests; and what is not there."""

import datetime
import http.client
import io
import socket
import time
import unittest
import urllib.parse
import xml.etree.ElementTree
from contextlib import closing
from unittest import mock

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.httpchecksum import AwsChunkedWrapper, Crc32Checksum
from support import ENDPOINT, Test, http as send, md5, noise


def code(answer):
    """The error code in an answer's XML."""
    return xml.etree.ElementTree.fromstring(answer.data).findtext("Code")


class Keys(Test):
    def test_a_wrong_signature_is_refused(self):
        wrong = self.client("writer", secret="not the secret")
        for call in (
            lambda: wrong.list_buckets(),
            lambda: wrong.put_object(Bucket="files", Key="wrong", Body=noise(1, 100_000)),
            lambda: wrong.get_object(Bucket="files", Key="wrong"),
            lambda: wrong.list_objects_v2(Bucket="files"),
        ):
            with self.refused("SignatureDoesNotMatch", 403):
                call()
        self.absent("wrong")
        with self.refused("InvalidAccessKeyId", 403):
            self.client("nobody").list_objects_v2(Bucket="files")

    def test_unsigned_requests_are_refused(self):
        for method, path in (("GET", "/"), ("GET", "/files"), ("GET", "/files/k"), ("PUT", "/files/k")):
            answer = send(method, ENDPOINT + path)
            self.assertEqual((answer.status, code(answer)), (403, "AccessDenied"), path)
        self.absent("k")

    def test_a_reader_does_not_write(self):
        self.s3.put_object(Bucket="files", Key="read only", Body=b"kept")
        reader = self.client("reader")
        with closing(reader.get_object(Bucket="files", Key="read only")["Body"]) as body:
            self.assertEqual(body.read(), b"kept")
        here = {"Bucket": "files", "Key": "read only"}
        for call in (
            lambda: reader.put_object(**here, Body=b"changed"),
            lambda: reader.delete_object(**here),
            lambda: reader.delete_objects(Bucket="files", Delete={"Objects": [{"Key": "read only"}]}),
            lambda: reader.copy_object(Bucket="files", Key="copy", CopySource=here),
            lambda: reader.create_multipart_upload(**here),
            lambda: reader.delete_bucket(Bucket="files"),
            lambda: reader.list_objects_v2(Bucket="assets"),
            lambda: reader.get_object(Bucket="assets", Key="k"),
        ):
            with self.refused("AccessDenied", 403):
                call()
        self.assertEqual(self.read("read only"), b"kept")

    def test_environments_do_not_meet(self):
        self.s3.put_object(Bucket="files", Key="of staging", Body=b"staging")
        production = self.client("production")
        production.put_object(Bucket="files", Key="of production", Body=b"production")
        listed = production.list_objects_v2(Bucket="books")["Contents"]
        self.assertEqual([entry["Key"] for entry in listed], ["of production"])
        self.absent("of production")
        for bucket in ("assets", "staging--files", "staging--assets"):
            with self.refused("NoSuchBucket", 404):
                production.list_objects_v2(Bucket=bucket)
        for source in ("staging--files", "assets"):
            with self.refused("NoSuchBucket", 404):
                production.copy_object(
                    Bucket="files", Key="stolen", CopySource={"Bucket": source, "Key": "of staging"}
                )


class Requests(Test):
    def test_an_old_request_is_refused(self):
        old = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=16)
        with mock.patch.object(botocore.auth, "get_current_datetime", lambda *_: old):
            with self.refused("RequestTimeTooSkewed", 403):
                self.s3.list_buckets()

    def test_an_altered_request_is_refused(self):
        """Whatever changes after the signature was made: the body, the key, a header, the query."""
        self.s3.put_object(Bucket="files", Key="altered", Body=b"before")

        def body(request, **_):
            request.body = b"X" * len(request.body.getvalue())

        def key(request, **_):
            request.url = request.url.replace("/altered", "/altered2")

        def header(request, **_):
            self.assertIn("x-amz-meta-owner", request.headers)
            del request.headers["x-amz-meta-owner"]
            request.headers["x-amz-meta-owner"] = "mallory"

        def query(request, **_):
            request.url += "&tagging" if "?" in request.url else "?acl"

        for alter, size, expected in [
            (body, 100, ("XAmzContentSHA256Mismatch", 400)),
            (body, 100_000, ("XAmzContentSHA256Mismatch", 400)),
            (key, 100, ("SignatureDoesNotMatch", 403)),
            (header, 100, ("SignatureDoesNotMatch", 403)),
            (query, 100, ("SignatureDoesNotMatch", 403)),
        ]:
            altered = self.client(request_checksum_calculation="when_required")
            altered.meta.events.register("before-send.s3.PutObject", alter)
            with self.refused(*expected):
                altered.put_object(Bucket="files", Key="altered", Body=noise(2, size), Metadata={"owner": "alice"})
        self.assertEqual(self.read("altered"), b"before")
        self.absent("altered2")

    def test_a_body_that_breaks_off_stores_nothing(self):
        url = self.s3.generate_presigned_url("put_object", {"Bucket": "files", "Key": "broken"}, 60)
        parts = urllib.parse.urlsplit(url)
        with closing(http.client.HTTPConnection(parts.netloc, timeout=30)) as connection:
            connection.putrequest("PUT", f"{parts.path}?{parts.query}")
            connection.putheader("Content-Length", "1000000")
            connection.endheaders(noise(3, 500_000))
        self.absent("broken")
        self.assertEqual(self.keys(Prefix="broken"), [])

    def test_a_client_that_waits_to_send_is_told_to_close(self):
        """A client that sends `Expect: 100-continue` and is refused does not send its body. If the connection went
        on, the server would take the next request for that body."""
        for path, answers in (
            ("/files/expected", [b"HTTP/1.1 403 "]),
            (self.s3.generate_presigned_url("put_object", {"Bucket": "files", "Key": "expected"}, 60), None),
        ):
            parts = urllib.parse.urlsplit(urllib.parse.urljoin(ENDPOINT, path))
            with socket.create_connection((parts.hostname, parts.port), timeout=30) as connection:
                head = f"PUT {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
                head += "Content-Length: 4\r\nExpect: 100-continue\r\n\r\n"
                connection.sendall(head.encode())
                with connection.makefile("rb") as reader:
                    first = reader.readline()
                    if answers:
                        self.assertTrue(first.startswith(answers[0]), first)
                        rest = reader.read()
                        self.assertIn(b"\r\nconnection: close\r\n", rest.lower())
                        continue
                    self.assertEqual(first, b"HTTP/1.1 100 Continue\r\n")
                    self.assertEqual(reader.readline(), b"\r\n")
                    connection.sendall(b"body")
                    self.assertTrue(reader.readline().startswith(b"HTTP/1.1 200 "))
                    headers = http.client.parse_headers(reader)
                    self.assertNotEqual(headers.get("connection"), "close")
        self.assertEqual(self.read("expected"), b"body")

    def test_what_is_not_there_is_said_and_not_ignored(self):
        self.s3.put_object(Bucket="files", Key="k", Body=b"x")
        here = {"Bucket": "files", "Key": "k"}
        key = "0" * 32
        for call in (
            lambda: self.s3.put_object(**here, ACL="public-read"),
            lambda: self.s3.put_object(**here, Tagging="a=b"),
            lambda: self.s3.put_object(**here, ServerSideEncryption="AES256"),
            lambda: self.s3.put_object(**here, SSECustomerAlgorithm="AES256", SSECustomerKey=key),
            lambda: self.s3.put_object_acl(**here, ACL="public-read"),
            lambda: self.s3.get_object_tagging(**here),
            lambda: self.s3.get_object(**here, VersionId="abc"),
            lambda: self.s3.delete_object(**here, IfMatch='"other"'),
            lambda: self.s3.put_bucket_policy(Bucket="files", Policy="{}"),
            lambda: self.s3.get_bucket_versioning(Bucket="files"),
        ):
            with self.refused("NotImplemented", 501):
                call()
        self.assertEqual(self.read("k"), b"x")
        url = ENDPOINT + "/files/k?AWSAccessKeyId=writer&Expires=9999999999&Signature=x"
        answer = send("GET", url)
        self.assertEqual((answer.status, code(answer)), (400, "InvalidRequest"))


class Presigned(Test):
    def url(self, operation, seconds=60, **options):
        return self.s3.generate_presigned_url(operation, {"Bucket": "files", "Key": "pre signed/ü", **options}, seconds)

    def test_every_verb(self):
        data = noise(4, 100_000)
        put = self.url("put_object", ContentType="image/png")
        answer = send("PUT", put, body=data, headers={"Content-Type": "text/html"})
        self.assertEqual((answer.status, code(answer)), (403, "SignatureDoesNotMatch"))
        self.absent("pre signed/ü")
        answer = send("PUT", put, body=data, headers={"Content-Type": "image/png"})
        self.assertEqual((answer.status, answer.headers["etag"]), (200, f'"{md5(data)}"'))
        answer = send("HEAD", self.url("head_object"))
        self.assertEqual((answer.status, answer.headers["content-type"]), (200, "image/png"))
        self.assertEqual(answer.headers["content-length"], "100000")
        disposition = 'attachment; filename="x.png"'
        answer = send("GET", self.url("get_object", ResponseContentDisposition=disposition))
        self.assertEqual((answer.status, answer.data), (200, data))
        self.assertEqual(answer.headers["content-disposition"], disposition)
        answer = send("GET", self.url("get_object"), headers={"Range": "bytes=5-9"})
        self.assertEqual((answer.status, answer.data), (206, data[5:10]))
        answer = send("DELETE", self.url("delete_object"))
        self.assertEqual(answer.status, 204)
        answer = send("GET", self.url("get_object"))
        self.assertEqual((answer.status, code(answer)), (404, "NoSuchKey"))

    def test_one_url_is_for_one_thing(self):
        self.s3.put_object(Bucket="files", Key="pre signed/ü", Body=b"kept")
        get = self.url("get_object")
        signature = get[-64:]
        for method, url in [
            ("DELETE", get),
            ("PUT", get),
            ("GET", get.replace("pre%20signed", "other")),
            ("GET", get.replace("X-Amz-Expires=60", "X-Amz-Expires=600")),
            ("GET", get.replace(signature, signature[::-1])),
        ]:
            answer = send(method, url)
            self.assertEqual((answer.status, code(answer)), (403, "SignatureDoesNotMatch"), url)
        self.assertEqual(send("GET", get).data, b"kept")

    def test_it_ends(self):
        self.s3.put_object(Bucket="files", Key="pre signed/ü", Body=b"kept")
        short = self.url("get_object", 1)
        self.assertEqual(send("GET", short).status, 200)
        time.sleep(2.1)
        answer = send("GET", short)
        self.assertEqual((answer.status, code(answer)), (403, "AccessDenied"))
        answer = send("GET", self.url("get_object", 604_801))
        self.assertEqual((answer.status, code(answer)), (400, "AuthorizationQueryParametersError"))
        self.assertEqual(send("GET", self.url("get_object", 604_800)).data, b"kept")


class Trailing(Test):
    """Checksums behind the body, as SDKs send them over TLS: here signed by botocore's own signer and sent as it is."""

    def put(self, data, checksum=None):
        class Signer(botocore.auth.S3SigV4Auth):
            def payload(self, request):
                return "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

        class Wrong(Crc32Checksum):
            def digest(self):
                return b"nope"

        kind = Wrong if checksum == "wrong" else Crc32Checksum
        body = AwsChunkedWrapper(io.BytesIO(data), kind, "x-amz-checksum-crc32", 65536).read()
        headers = {
            "Content-Encoding": "aws-chunked",
            "X-Amz-Trailer": "x-amz-checksum-crc32",
            "X-Amz-Decoded-Content-Length": str(len(data)),
            "X-Amz-Content-SHA256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        }
        if checksum == "short":
            headers["X-Amz-Decoded-Content-Length"] = str(len(data) + 1)
        if checksum == "none":
            body = body[: body.rindex(b"x-amz-checksum")] + b"\r\n"
        request = AWSRequest("PUT", ENDPOINT + "/files/trailing", headers=headers, data=body)
        Signer(Credentials("writer", "secret of writer"), "s3", "auto").add_auth(request)
        return send("PUT", ENDPOINT + "/files/trailing", body=body, headers=dict(request.headers))

    def test_trailers_are_checked(self):
        for size in (0, 10, 200_000):
            data = noise(5, size)
            for checksum, expected in (("wrong", "BadDigest"), ("short", "IncompleteBody"), ("none", "InvalidRequest")):
                answer = self.put(data, checksum)
                self.assertEqual((answer.status, code(answer)), (400, expected), (size, checksum))
                self.absent("trailing")
            answer = self.put(data)
            self.assertEqual((answer.status, answer.headers["etag"]), (200, f'"{md5(data)}"'), answer.data)
            head = self.s3.head_object(Bucket="files", Key="trailing", ChecksumMode="ENABLED")
            self.assertIn("ChecksumCRC32", head)
            self.assertNotIn("ContentEncoding", head)
            self.assertEqual(self.read("trailing"), data)
            self.s3.delete_object(Bucket="files", Key="trailing")


if __name__ == "__main__":
    unittest.main()
