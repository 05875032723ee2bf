//! Jobs in a world that is told what time it is and loses power.

mod crash;
mod rules;
mod sim;
mod threads;
