//! plimsoll
fn main(){}
