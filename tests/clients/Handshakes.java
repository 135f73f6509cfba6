import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.Writer;
import java.net.InetAddress;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.Principal;
import java.security.PrivateKey;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import javax.net.ssl.KeyManager;
import javax.net.ssl.SNIHostName;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLServerSocket;
import javax.net.ssl.SSLSession;
import javax.net.ssl.SSLSessionContext;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManager;
import javax.net.ssl.TrustManagerFactory;
import javax.net.ssl.X509ExtendedKeyManager;

/**
 * Servers and clients of TLS handshakes with the JDK alone, as `peer servers` and `peer handshakes` are with Go:
 * `servers WORDS...` runs one server for each WORDS, until stdin ends, and `handshakes` makes the connections that each
 * line of stdin asks for. WORDS are `key=value`, separated by commas.
 */
public final class Handshakes {
  private static final byte[] ANSWER =
      "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 6\r\n\r\nhello\n"
          .getBytes(StandardCharsets.US_ASCII);

  public static void main(String[] arguments) throws Exception {
    if (arguments[0].equals("servers")) {
      for (int index = 1; index < arguments.length; index++) {
        serve(wordsOf(arguments[index]));
      }
      System.out.println("ready");
      System.in.transferTo(OutputStream.nullOutputStream());
      System.exit(0);
    }
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      try {
        connections(wordsOf(line));
        System.out.println("ok");
      } catch (Exception error) {
        System.out.println("error " + String.valueOf(error).replace('\n', ' '));
      }
    }
  }

  private static Map<String, String> wordsOf(String text) {
    Map<String, String> words = new HashMap<>();
    for (String word : text.split(",")) {
      String[] parts = word.split("=", 2);
      words.put(parts[0], parts.length > 1 ? parts[1] : "");
    }
    return words;
  }

  private static void serve(Map<String, String> words) throws Exception {
    SSLContext context = context(words.get("cert"), words.get("ask"));
    SSLServerSocket listener =
        (SSLServerSocket)
            context.getServerSocketFactory().createServerSocket(0, 100, InetAddress.getByName("127.0.0.1"));
    SSLParameters parameters = parameters(words);
    parameters.setNeedClientAuth(words.containsKey("ask"));
    if (words.containsKey("only")) {
      parameters.setSNIMatchers(List.of(SNIHostName.createSNIMatcher(words.get("only").replace(".", "\\."))));
    }
    listener.setSSLParameters(parameters);
    System.out.println(words.get("name") + " 127.0.0.1:" + listener.getLocalPort());
    Thread thread =
        new Thread(
            () -> {
              while (true) {
                try {
                  SSLSocket socket = (SSLSocket) listener.accept();
                  // As Elasticsearch does: else each flight waits for an acknowledgement.
                  socket.setTcpNoDelay(true);
                  new Thread(() -> answer(socket, words.containsKey("closes"))).start();
                } catch (IOException error) {
                  return;
                }
              }
            });
    thread.setDaemon(true);
    thread.start();
  }

  private static void answer(SSLSocket accepted, boolean closes) {
    try (SSLSocket socket = accepted) {
      socket.startHandshake();
      if (closes) {
        return;
      }
      BufferedReader reader = new BufferedReader(new InputStreamReader(socket.getInputStream()));
      for (String line = reader.readLine(); line != null; line = reader.readLine()) {
        if (line.isEmpty()) {
          socket.getOutputStream().write(ANSWER);
          // To close before the client's last bytes are read would be a reset, which may overtake the answer.
          socket.shutdownOutput();
          socket.setSoTimeout(60_000);
          reader.transferTo(Writer.nullWriter());
          return;
        }
      }
    } catch (IOException error) {
      // The client shows why.
    }
  }

  private static void connections(Map<String, String> words) throws Exception {
    SSLContext context = context(words.get("cert"), words.get("ca"));
    for (int left = Integer.parseInt(words.get("count")); left > 0; left--) {
      connection(words, context);
      if (!words.containsKey("resume")) {
        forget(context);
      }
    }
  }

  /** Forgets the sessions that could be resumed. */
  private static void forget(SSLContext context) {
    SSLSessionContext sessions = context.getClientSessionContext();
    for (byte[] id : Collections.list(sessions.getIds())) {
      SSLSession session = sessions.getSession(id);
      if (session != null) {
        session.invalidate();
      }
    }
  }

  private static void connection(Map<String, String> words, SSLContext context) throws Exception {
    Socket plain = new Socket("127.0.0.1", Integer.parseInt(words.get("port")));
    plain.setTcpNoDelay(true);
    plain.setSoTimeout(60_000);
    SSLSocket socket = (SSLSocket) context.getSocketFactory().createSocket(plain, words.get("name"), 443, true);
    try (plain; socket) {
      SSLParameters parameters = parameters(words);
      parameters.setEndpointIdentificationAlgorithm("HTTPS");
      parameters.setServerNames(List.of(new SNIHostName(words.get("name"))));
      socket.setSSLParameters(parameters);
      socket.startHandshake();
      String how = words.get("how");
      if (how.equals("drop")) {
        plain.close();
        return;
      }
      if (how.equals("close")) {
        return;
      }
      String request = "GET / HTTP/1.1\r\nHost: " + words.get("name") + "\r\n\r\n";
      socket.getOutputStream().write(request.getBytes(StandardCharsets.US_ASCII));
      if (how.equals("half")) {
        socket.shutdownOutput();
      }
      if (socket.getInputStream().readAllBytes().length == 0) {
        throw new IOException("no answer");
      }
    }
  }

  private static SSLParameters parameters(Map<String, String> words) throws Exception {
    SSLParameters parameters = SSLContext.getDefault().getDefaultSSLParameters();
    boolean old = !"1.3".equals(words.get("min"));
    boolean recent = !"1.2".equals(words.get("max"));
    parameters.setProtocols(
        old && recent
            ? new String[] {"TLSv1.3", "TLSv1.2"}
            : new String[] {recent ? "TLSv1.3" : "TLSv1.2"});
    if (words.containsKey("alpn")) {
      parameters.setApplicationProtocols(new String[] {words.get("alpn")});
    }
    if ("128".equals(words.get("cipher"))) {
      parameters.setCipherSuites(new String[] {"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"});
    }
    if ("256".equals(words.get("cipher"))) {
      parameters.setCipherSuites(new String[] {"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"});
    }
    return parameters;
  }

  private static SSLContext context(String certificate, String authority) throws Exception {
    SSLContext context = SSLContext.getInstance("TLS");
    KeyManager[] keys = certificate == null ? null : new KeyManager[] {new OneKey(certificate)};
    TrustManager[] trust = null;
    if (authority != null) {
      KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
      store.load(null, null);
      store.setCertificateEntry("authority", read(authority));
      TrustManagerFactory factory = TrustManagerFactory.getInstance("PKIX");
      factory.init(store);
      trust = factory.getTrustManagers();
    }
    context.init(keys, trust, null);
    return context;
  }

  private static X509Certificate read(String file) throws Exception {
    try (InputStream stream = new FileInputStream(file)) {
      return (X509Certificate) CertificateFactory.getInstance("X.509").generateCertificate(stream);
    }
  }

  /** One certificate, also if the other side names other authorities. */
  private static final class OneKey extends X509ExtendedKeyManager {
    private final X509Certificate[] chain;
    private final PrivateKey key;

    OneKey(String name) throws Exception {
      chain = new X509Certificate[] {read(name + ".crt")};
      String text = Files.readString(Path.of(name + ".key")).replaceAll("-----[A-Z ]+-----|\\s", "");
      key = KeyFactory.getInstance("EC").generatePrivate(new PKCS8EncodedKeySpec(Base64.getDecoder().decode(text)));
    }

    private static String only(String... types) {
      for (String type : types) {
        if (type.startsWith("EC")) {
          return "only";
        }
      }
      return null;
    }

    @Override
    public String chooseClientAlias(String[] types, Principal[] issuers, Socket socket) {
      return only(types);
    }

    @Override
    public String chooseEngineClientAlias(String[] types, Principal[] issuers, SSLEngine engine) {
      return only(types);
    }

    @Override
    public String chooseServerAlias(String type, Principal[] issuers, Socket socket) {
      return only(type);
    }

    @Override
    public String chooseEngineServerAlias(String type, Principal[] issuers, SSLEngine engine) {
      return only(type);
    }

    @Override
    public String[] getClientAliases(String type, Principal[] issuers) {
      return new String[] {"only"};
    }

    @Override
    public String[] getServerAliases(String type, Principal[] issuers) {
      return new String[] {"only"};
    }

    @Override
    public X509Certificate[] getCertificateChain(String alias) {
      return chain;
    }

    @Override
    public PrivateKey getPrivateKey(String alias) {
      return key;
    }
  }
}
