import com.eatthepath.pushy.apns.server.*;
import io.netty.buffer.ByteBuf;
import io.netty.handler.codec.http2.Http2Headers;
import java.io.File;
import java.nio.charset.StandardCharsets;
import java.time.Instant;

/**
 * pushy's mock of Apple's service, told by the device token how to answer: a token that is the name
 * of a reason without its underscores is refused for that reason, any other is accepted. Prints the
 * port, then a line for each push: accepted or rejected, path, headers, payload, tab-separated.
 */
public class PushyServer {
    public static void main(String[] files) throws Exception {
        PushNotificationHandlerFactory answers = session -> (headers, payload) -> {
            String token = headers.path().toString().replace("/3/device/", "");
            for (RejectionReason reason : RejectionReason.values()) {
                if (token.equals(reason.name().replace("_", ""))) {
                    throw reason == RejectionReason.UNREGISTERED
                        ? new UnregisteredDeviceTokenException(Instant.ofEpochMilli(1_700_000_000_000L))
                        : new RejectedNotificationException(reason);
                }
            }
        };
        MockApnsServer server = new MockApnsServerBuilder()
            .setServerCredentials(new File(files[0]), new File(files[1]), null)
            .setHandlerFactory(answers)
            .setListener(new Listener())
            .build();
        System.out.println(server.start(0).get());
        System.in.read();
        System.exit(0);
    }

    static class Listener implements MockApnsServerListener {
        public void handlePushNotificationAccepted(Http2Headers headers, ByteBuf payload) {
            print("accepted", headers, payload);
        }

        public void handlePushNotificationRejected(
                Http2Headers headers, ByteBuf payload, RejectionReason reason, Instant since) {
            print("rejected", headers, payload);
        }

        static synchronized void print(String what, Http2Headers headers, ByteBuf payload) {
            StringBuilder line = new StringBuilder(what);
            headers.forEach(entry -> line.append('\t').append(entry.getKey()).append('=').append(entry.getValue()));
            line.append("\tpayload=").append(payload == null ? "" : payload.toString(StandardCharsets.UTF_8));
            System.out.println(line);
        }
    }
}
