//! Durable object storage behind the S3 API and the R2 binding.
