//! Rule files, read: directives with their places, nothing decided yet.
