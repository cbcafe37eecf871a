// SPDX-License-Identifier: ISC
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.util.concurrent.Executors;

public class Main {
	public static void main(String[] args) throws Exception {
		HttpServer s = HttpServer.create(new InetSocketAddress(8080), 16);
		s.setExecutor(Executors.newFixedThreadPool(4));
		s.createContext("/", x -> {
			byte[] b = ("hello from java " + x.getRequestURI().getPath()).getBytes();
			x.sendResponseHeaders(200, b.length);
			x.getResponseBody().write(b);
			x.close();
		});
		s.start();
	}
}
