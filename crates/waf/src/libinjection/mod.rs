//! SQL injection and XSS, recognised as the C library of that name does.
