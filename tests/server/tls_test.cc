// TLS over real connections: who gets in, what the files must be, and that new ones are taken while calls run.
#include <gtest/gtest.h>

#include <string>

#include "server/tls_files.h"
#include "tests/server/test_certificates.h"
#include "tests/server/test_server.h"

namespace megakernel::testing {
namespace {

struct Authorities {
  TestCertificate ours = MakeAuthority("ours");
  TestCertificate others = MakeAuthority("others");
};

const Authorities& Known() {
  static const Authorities authorities;
  return authorities;
}

TlsPaths WriteIdentity(const TestCertificate& identity, const std::string& client_ca = "") {
  return {.certificate = WriteFile("cert.pem", identity.certificate),
          .key = WriteFile("key.pem", identity.key),
          .client_ca = client_ca.empty() ? "" : WriteFile("client_ca.pem", client_ca)};
}

TestServerOptions WithTls(const std::shared_ptr<TlsFiles>& files) {
  TestServerOptions options;
  options.settings.tls = files;
  return options;
}

// A call over a connection of its own; the certificates it shows are optional.
grpc::Status Call(const Server& server, const TestCertificate& authority, const TestCertificate& own = {},
                  std::string* peer = nullptr) {
  grpc::SslCredentialsOptions ssl{
      .pem_root_certs = authority.certificate, .pem_private_key = own.key, .pem_cert_chain = own.certificate};
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  auto stub = v1::InferenceService::NewStub(
      grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(server.port()), grpc::SslCredentials(ssl), arguments));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  v1::GetModelResponse response;
  const grpc::Status status = stub->GetModel(&context, {}, &response);
  if (peer != nullptr && status.ok()) {
    const auto pem = context.auth_context()->FindPropertyValues("x509_pem_cert");
    if (!pem.empty()) peer->assign(pem[0].data(), pem[0].size());
  }
  return status;
}

TEST(Tls, ClientsThatKnowTheAuthorityGetIn) {
  const auto files = TlsFiles::Open(WriteIdentity(MakeCertificate(Known().ours)));
  ASSERT_TRUE(files.ok()) << files.status();
  TestServer server(WithTls(*files));
  EXPECT_TRUE(Call(server.server(), Known().ours).ok());
  EXPECT_EQ(Call(server.server(), Known().others).error_code(), grpc::UNAVAILABLE);
  // Unencrypted.
  const Generated plain = Generate(server.inference(), TokensRequest({10}, 1), absl::Seconds(5));
  EXPECT_FALSE(plain.status.ok());
}

TEST(Tls, AnExpiredCertificateIsServedAndClientsRefuseIt) {
  const TestCertificate expired = MakeCertificate(Known().ours, {.from = -absl::Hours(48), .to = -absl::Hours(1)});
  const auto files = TlsFiles::Open(WriteIdentity(expired));
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_NE(DateWarning(*(*files)->identity(), absl::Now()).find("expired"), std::string::npos);
  TestServer server(WithTls(*files));
  EXPECT_EQ(Call(server.server(), Known().ours).error_code(), grpc::UNAVAILABLE);
}

TEST(Tls, MutualTlsAsksForAClientsCertificate) {
  const auto files = TlsFiles::Open(WriteIdentity(MakeCertificate(Known().ours), Known().ours.certificate));
  ASSERT_TRUE(files.ok()) << files.status();
  TestServer server(WithTls(*files));
  EXPECT_TRUE(Call(server.server(), Known().ours, MakeCertificate(Known().ours, {.name = "client"})).ok());
  EXPECT_EQ(Call(server.server(), Known().ours).error_code(), grpc::UNAVAILABLE);
  EXPECT_EQ(Call(server.server(), Known().ours, MakeCertificate(Known().others, {.name = "client"})).error_code(),
            grpc::UNAVAILABLE);
  const TestCertificate expired =
      MakeCertificate(Known().ours, {.name = "client", .from = -absl::Hours(48), .to = -absl::Hours(1)});
  EXPECT_EQ(Call(server.server(), Known().ours, expired).error_code(), grpc::UNAVAILABLE);
}

// A Decode stream of the first certificate goes on while the server shows the second to new connections.
TEST(Tls, NewFilesForNewConnections) {
  const TestCertificate first = MakeCertificate(Known().ours);
  const TestCertificate second = MakeCertificate(Known().ours);
  const auto files = TlsFiles::Open(WriteIdentity(first));
  ASSERT_TRUE(files.ok()) << files.status();
  TestServer server(WithTls(*files));
  auto stub = v1::InferenceService::NewStub(grpc::CreateChannel(
      "127.0.0.1:" + std::to_string(server.server().port()),
      grpc::SslCredentials({.pem_root_certs = Known().ours.certificate, .pem_private_key = "", .pem_cert_chain = ""})));
  grpc::ClientContext context;
  auto stream = stub->Decode(&context);
  v1::DecodeRequest request;
  request.mutable_open();
  v1::DecodeResponse response;
  ASSERT_TRUE(stream->Write(request) && stream->Read(&response));

  WriteIdentity(second);
  ASSERT_TRUE((*files)->Reload(absl::Now()).ok());
  std::string peer;
  ASSERT_TRUE(Call(server.server(), Known().ours, {}, &peer).ok());
  EXPECT_EQ(peer, second.certificate);

  request.mutable_append()->mutable_tokens()->add_ids(10);
  ASSERT_TRUE(stream->Write(request) && stream->Read(&response));
  EXPECT_EQ(response.appended().length(), 1);
  stream->WritesDone();
  while (stream->Read(&response)) {
  }
  EXPECT_TRUE(stream->Finish().ok());
}

TEST(Tls, WhatIsBrokenChangesNothing) {
  const TestCertificate first = MakeCertificate(Known().ours);
  const TlsPaths paths = WriteIdentity(first);
  const auto files = TlsFiles::Open(paths);
  ASSERT_TRUE(files.ok()) << files.status();
  TestServer server(WithTls(*files));
  WriteFile("key.pem", MakeCertificate(Known().ours).key);  // half of a change
  EXPECT_FALSE((*files)->Reload(absl::Now()).ok());
  std::string peer;
  ASSERT_TRUE(Call(server.server(), Known().ours, {}, &peer).ok());
  EXPECT_EQ(peer, first.certificate);
  WriteIdentity(MakeCertificate(Known().ours, {.from = -absl::Hours(48), .to = -absl::Hours(1)}));
  EXPECT_NE((*files)->Reload(absl::Now()).message().find("expired"), std::string::npos);
  ASSERT_TRUE(Call(server.server(), Known().ours, {}, &peer).ok());
  EXPECT_EQ(peer, first.certificate);
}

TEST(Tls, ErrorsNameTheFileAndWhatIsWrong) {
  const TestCertificate good = MakeCertificate(Known().ours);
  const TlsPaths paths = WriteIdentity(good, Known().ours.certificate);
  std::string damaged = good.certificate;
  damaged.replace(damaged.size() / 2, 4, "!!!!");
  std::string encrypted = good.key;
  encrypted =
      "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
      "MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAh1\n-----END ENCRYPTED PRIVATE KEY-----\n";
  struct Case {
    std::string certificate, key, client_ca;
    std::string file, why;
  };
  const Case cases[] = {
      {"/nonexistent/cert.pem", paths.key, "", "/nonexistent/cert.pem", "No such file"},
      {::testing::TempDir(), paths.key, "", ::testing::TempDir(), "is no plain file"},
      {WriteFile("empty.pem", ""), paths.key, "", "empty.pem", "is empty"},
      {WriteFile("text.pem", "no certificate"), paths.key, "", "text.pem", "holds no PEM certificate"},
      {WriteFile("damaged.pem", damaged), paths.key, "", "damaged.pem", "damaged"},
      {WriteFile("large.pem", std::string((1 << 20) + 1, 'x')), paths.key, "", "large.pem", "larger than"},
      {paths.certificate, "/nonexistent/key.pem", "", "/nonexistent/key.pem", "No such file"},
      {paths.certificate, paths.certificate, "", "cert.pem", "holds no PEM private key"},
      {paths.certificate, WriteFile("encrypted.pem", encrypted), "", "encrypted.pem", "key"},
      {paths.certificate, WriteFile("other.pem", MakeCertificate(Known().ours).key), "", "other.pem", "is not the key"},
      {paths.certificate, paths.key, "/nonexistent/ca.pem", "/nonexistent/ca.pem", "No such file"},
      {paths.certificate, paths.key, paths.key, "key.pem", "holds no PEM certificate"},
  };
  for (const Case& bad : cases) {
    const auto read = ReadTlsIdentity({.certificate = bad.certificate, .key = bad.key, .client_ca = bad.client_ca});
    ASSERT_FALSE(read.ok()) << bad.file;
    const std::string message(read.status().message());
    EXPECT_NE(message.find(bad.file), std::string::npos) << message;
    EXPECT_NE(message.find(bad.why), std::string::npos) << message;
    EXPECT_EQ(message.find(good.key.substr(40, 20)), std::string::npos) << "a key is quoted";
  }
  EXPECT_TRUE(ReadTlsIdentity(paths).ok());
}

TEST(Tls, Dates) {
  const auto identity = ReadTlsIdentity(WriteIdentity(MakeCertificate(Known().ours, {.to = absl::Hours(240)})));
  ASSERT_TRUE(identity.ok());
  const absl::Time now = absl::Now();
  EXPECT_EQ(DateWarning(*identity, now), "");
  EXPECT_NE(DateWarning(*identity, now + absl::Hours(96)).find("expires"), std::string::npos);
  EXPECT_NE(DateWarning(*identity, now + absl::Hours(241)).find("expired"), std::string::npos);
  EXPECT_NE(DateWarning(*identity, now - absl::Hours(2)).find("not valid before"), std::string::npos);
}

}  // namespace
}  // namespace megakernel::testing
