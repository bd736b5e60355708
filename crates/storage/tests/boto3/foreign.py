"""Objects that another protocol wrote, with metadata that HTTP's headers cannot say: readable all the same."""

import unittest

from support import Test


class Foreign(Test):
    def test_everything_else_of_them_is_there(self):
        for call in (self.s3.head_object, self.s3.get_object):
            answer = call(Bucket="files", Key="foreign")
            self.assertEqual(answer["ContentLength"], 5)
            self.assertEqual(answer["ContentType"], "application/octet-stream")
            self.assertNotIn("ContentLanguage", answer)
            self.assertNotIn("CacheControl", answer)
            self.assertEqual(answer["ContentEncoding"], "br")
            self.assertEqual(answer["ExpiresString"], "Fri, 31 Dec 9999 23:59:59 GMT")
            self.assertEqual(answer["Metadata"], {"good": "=?UTF-8?B?dsOkbHVl?="})
            self.assertEqual(answer["MissingMeta"], 2)
        self.assertEqual(answer["Body"].read(), b"bytes")
        disposition = answer["ResponseMetadata"]["HTTPHeaders"]["content-disposition"]
        self.assertEqual(disposition.encode("latin-1").decode(), 'attachment; filename="ü.png"')
        self.assertEqual(self.keys(Prefix="foreign"), ["foreign"])
        self.s3.copy_object(Bucket="files", Key="copy", CopySource={"Bucket": "files", "Key": "foreign"})
        self.assertEqual(self.read("copy"), b"bytes")


if __name__ == "__main__":
    unittest.main()
