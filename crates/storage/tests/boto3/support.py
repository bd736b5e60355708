"""What the scripts share: clients, and how a refusal is told."""

import contextlib
import hashlib
import os
import random
import unittest

import boto3
import urllib3
from botocore.config import Config
from botocore.exceptions import ClientError

ENDPOINT = os.environ["S3_ENDPOINT"]


def client(key="writer", secret=None, **config):
    """A client with an access key of the test's snapshot. It never tries again: a failure must be seen."""
    settings = {"retries": {"total_max_attempts": 1}, "s3": {"addressing_style": "path"}, **config}
    return boto3.client(
        "s3",
        endpoint_url=ENDPOINT,
        aws_access_key_id=key,
        aws_secret_access_key=secret or f"secret of {key}",
        region_name="auto",
        config=Config(**settings),
    )


def noise(seed, length):
    return random.Random(seed).randbytes(length)


def md5(data):
    return hashlib.md5(data).hexdigest()


class Test(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.s3 = self.client()

    def client(self, *args, **config):
        """A client that is closed after the test."""
        made = client(*args, **config)
        self.addCleanup(made.close)
        return made

    @contextlib.contextmanager
    def refused(self, code, status):
        """Expects S3's error code and HTTP's status."""
        with self.assertRaises(ClientError) as caught:
            yield caught
        answer = caught.exception.response
        found = (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"])
        self.assertEqual(found, (code, status), answer)

    def keys(self, bucket="files", **filters):
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, **filters)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def read(self, key, bucket="files", **options):
        with contextlib.closing(self.s3.get_object(Bucket=bucket, Key=key, **options)["Body"]) as body:
            return body.read()

    def absent(self, key, bucket="files"):
        with self.refused("NoSuchKey", 404):
            self.s3.get_object(Bucket=bucket, Key=key)


def http(method, url, **options):
    """A request without any client's help."""
    with urllib3.PoolManager() as pool:
        return pool.request(method, url, redirect=False, retries=False, timeout=30, **options)
