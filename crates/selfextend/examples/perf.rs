use selfextend::*;
use std::time::Instant;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let n: usize = a[2].parse().unwrap();
    let map = if a[3] == "plain" {
        PositionMap::Plain
    } else {
        PositionMap::self_extend(8, 1024).unwrap()
    };
    let t = Instant::now();
    let model = Model::load(
        a[1].as_ref(),
        LoadOptions {
            threads: 2,
            exact: false,
        },
    )
    .unwrap();
    println!(
        "load {:?} weights {} MB",
        t.elapsed(),
        model.weight_bytes() >> 20
    );
    let o = SessionOptions {
        context: 1 << 20,
        map,
        query_scaling: QueryScaling::None,
        kv_type: KvType::F16,
        chunk: 512,
    };
    for _ in 0..2 {
        let mut s = model.session(o);
        let ids: Vec<u32> = (0..n as u32).map(|i| (i * 7919) % 49000).collect();
        let t = Instant::now();
        s.append(&ids, &mut |_| Ok(())).unwrap();
        let p = t.elapsed().as_secs_f64();
        let t = Instant::now();
        let d = 64;
        for i in 0..d {
            s.append(&[i * 37], &mut |_| Ok(())).unwrap();
        }
        let e = t.elapsed().as_secs_f64();
        println!(
            "n {n} prefill {:.1} tok/s decode {:.1} tok/s cache {} MB",
            n as f64 / p,
            d as f64 / e,
            s.cache_bytes() >> 20
        );
    }
}
