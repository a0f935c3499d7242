module github.com/sprite-env/sprite-env/sdks/go

go 1.21
