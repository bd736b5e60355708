//! npm client
