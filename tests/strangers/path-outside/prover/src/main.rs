fn main() {
    let inverse = field::inverse(7);
    println!("1/7={inverse} product={} tag={}", field::multiply(7, inverse), field::tag());
}
