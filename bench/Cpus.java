// SPDX-License-Identifier: ISC
// N threads of a pool compute; prints the rounds of all of them in a second.
import java.util.concurrent.*;

public class Cpus {
	static long work(long x) {
		for (int k = 0; k < 600000000; k++)
			x = x * 6364136223846793005L + 1;
		return x;
	}

	public static void main(String[] args) throws Exception {
		int n = Integer.parseInt(args[0]);
		ExecutorService pool = Executors.newFixedThreadPool(n);
		Future<?>[] f = new Future<?>[n];
		long start = System.nanoTime(), sum = 0;

		for (int i = 0; i < n; i++) {
			final long seed = i;
			f[i] = pool.submit(() -> work(seed));
		}
		for (Future<?> r : f)
			sum ^= (Long)r.get();
		double seconds = (System.nanoTime() - start) / 1e9;
		pool.shutdown();
		System.out.println(n * 600000000.0 / seconds + (sum == 42 ? " " : ""));
	}
}
