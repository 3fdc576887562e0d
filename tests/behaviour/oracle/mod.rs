//! The oracle: a plain, slow re-computation of the contract from the records. It shares no code with the fold.
