//! board2mqtt
fn main() {}
