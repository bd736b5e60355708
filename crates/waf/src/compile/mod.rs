//! From parsed rules to a program: what is removed, updated and inherited is settled here, once.
