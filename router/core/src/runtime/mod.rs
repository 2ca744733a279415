//! Runs realms by name. Filled in next.
