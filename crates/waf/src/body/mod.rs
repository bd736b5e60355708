//! Request bodies: urlencoded, multipart, JSON and XML, each within limits, into what rules can look at.
