// A model's life with Google's Go library for generative AI, signed in with a service account's key: tuned, deployed, asked.
//
//	GOOGLE_VERTEX_BASE_URL=http://… GOOGLE_APPLICATION_CREDENTIALS=key.json tuning PROJECT DATASET OUTPUT
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"cloud.google.com/go/auth/credentials"
	"cloud.google.com/go/auth/httptransport"
	"google.golang.org/genai"
)

const location = "us-central1"

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	if err := life(ctx, os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("done")
}

func life(ctx context.Context, project, dataset, output string) error {
	scopes := []string{"https://www.googleapis.com/auth/cloud-platform"}
	found, err := credentials.DetectDefault(&credentials.DetectOptions{Scopes: scopes})
	if err != nil {
		return err
	}
	plain, err := httptransport.NewClient(&httptransport.Options{Credentials: found})
	if err != nil {
		return err
	}
	config := &genai.ClientConfig{Backend: genai.BackendVertexAI, Project: project, Location: location, Credentials: found}
	client, err := genai.NewClient(ctx, config)
	if err != nil {
		return err
	}
	job, err := client.Tunings.Tune(ctx, "meta/llama3_1@llama-3.1-8b", &genai.TuningDataset{GCSURI: dataset},
		&genai.CreateTuningJobConfig{EpochCount: genai.Ptr[int32](1), OutputURI: output, TunedModelDisplayName: "by-go"})
	if err != nil {
		return fmt.Errorf("tune: %w", err)
	}
	for job.EndTime.IsZero() {
		time.Sleep(200 * time.Millisecond)
		if job, err = client.Tunings.Get(ctx, job.Name, nil); err != nil {
			return fmt.Errorf("get: %w", err)
		}
	}
	if job.State != genai.JobStateSucceeded {
		return fmt.Errorf("the job ended as %s: %v", job.State, job.Error)
	}
	service := caller{plain, os.Getenv("GOOGLE_VERTEX_BASE_URL") + "/v1beta1/"}
	deployed, err := service.finish(ctx, "POST", fmt.Sprintf("projects/%s/locations/%s:deploy", project, location), map[string]any{
		"customModel": map[string]any{"gcsUri": output + "/postprocess/node-0/checkpoints/final"},
		"deployConfig": map[string]any{"dedicatedResources": map[string]any{
			"machineSpec":     map[string]any{"machineType": "g2-standard-12", "acceleratorType": "NVIDIA_L4", "acceleratorCount": 1},
			"minReplicaCount": 1,
		}},
	})
	if err != nil {
		return err
	}
	endpoint := deployed["endpoint"].(string)
	if err := ask(ctx, client, endpoint); err != nil {
		return err
	}
	shown, err := service.call(ctx, "GET", endpoint, nil)
	if err != nil {
		return err
	}
	model := shown["deployedModels"].([]any)[0].(map[string]any)["id"]
	if _, err := service.finish(ctx, "POST", endpoint+":undeployModel", map[string]any{"deployedModelId": model}); err != nil {
		return err
	}
	_, err = service.finish(ctx, "DELETE", endpoint, nil)
	return err
}

// ask compares a streamed answer with the whole one.
func ask(ctx context.Context, client *genai.Client, endpoint string) error {
	config := &genai.GenerateContentConfig{MaxOutputTokens: 4, Temperature: genai.Ptr[float32](0)}
	answer, err := client.Models.GenerateContent(ctx, endpoint, genai.Text("What is a car?"), config)
	if err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	streamed := ""
	for piece, err := range client.Models.GenerateContentStream(ctx, endpoint, genai.Text("What is a car?"), config) {
		if err != nil {
			return fmt.Errorf("stream: %w", err)
		}
		streamed += piece.Text()
	}
	if streamed != answer.Text() || answer.UsageMetadata.CandidatesTokenCount == 0 {
		return fmt.Errorf("streamed %q, and whole %q", streamed, answer.Text())
	}
	return nil
}

// caller sends what the library has no method for.
type caller struct {
	client *http.Client
	base   string
}

func (c caller) call(ctx context.Context, method, path string, body any) (map[string]any, error) {
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, content)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := c.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var answer map[string]any
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: %v", method, path, answer["error"])
	}
	return answer, nil
}

// finish starts an operation and returns its response.
func (c caller) finish(ctx context.Context, method, path string, body any) (map[string]any, error) {
	operation, err := c.call(ctx, method, path, body)
	for err == nil && operation["done"] != true {
		operation, err = c.call(ctx, "POST", operation["name"].(string)+":wait", nil)
	}
	if err != nil {
		return nil, err
	}
	if operation["error"] != nil {
		return nil, fmt.Errorf("%s %s: %v", method, path, operation["error"])
	}
	response, _ := operation["response"].(map[string]any)
	return response, nil
}
