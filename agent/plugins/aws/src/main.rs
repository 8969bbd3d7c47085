//! The plugins `aws-lambda` and `aws-ecs`, in one program that goes by the name it is called.

fn main() {}
