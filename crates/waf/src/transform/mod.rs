//! `t:lowercase`, `t:urlDecodeUni` and the others.
