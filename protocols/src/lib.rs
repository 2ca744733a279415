#![forbid(unsafe_code)]
//! Placeholder of the house: the rooms are being furnished.
